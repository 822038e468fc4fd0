"""`microopt-auditor`: run the auditor."""

from microopt.cli import agent_command
from microopt_optimizer.auditor.agent import build

main = agent_command("auditor", build)

if __name__ == "__main__":
    main()
