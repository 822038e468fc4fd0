"""`microopt-forecaster`: run the forecaster."""

from microopt.cli import agent_command
from microopt_forecaster.agent import build

main = agent_command("forecaster", build)

if __name__ == "__main__":
    main()
