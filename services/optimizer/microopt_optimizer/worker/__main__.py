"""`microopt-optimizer`: run an optimizer worker."""

from microopt.cli import agent_command
from microopt_optimizer.worker.agent import build

main = agent_command("optimizer", build)

if __name__ == "__main__":
    main()
