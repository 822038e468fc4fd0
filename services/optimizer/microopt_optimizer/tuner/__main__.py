"""`microopt-tuner`: measure slice models on fresh telemetry, and fine-tune those that drifted."""

from microopt.cli import agent_command
from microopt_optimizer.tuner.agent import build

main = agent_command("tuner", build)

if __name__ == "__main__":
    main()
