"""`microopt-actuator`: run the actuator."""

from microopt.cli import agent_command
from microopt_actuator.agent import build

main = agent_command("actuator", build)

if __name__ == "__main__":
    main()
