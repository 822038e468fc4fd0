"""`microopt-router`: run the router."""

from microopt.cli import agent_command
from microopt_optimizer.router.agent import build

main = agent_command("router", build)

if __name__ == "__main__":
    main()
