"""`microopt-collector`: run the collector."""

from microopt.cli import agent_command
from microopt_collector.agent import build

main = agent_command("collector", build)

if __name__ == "__main__":
    main()
