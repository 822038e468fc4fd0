"""`microopt-testbed`: run emulated slices as a process of their own."""

from microopt.cli import agent_command
from microopt_testbed.emulator_agent import build

main = agent_command("testbed", build)

if __name__ == "__main__":
    main()
