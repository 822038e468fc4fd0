from click.testing import CliRunner

from microopt.cli import main


def test_a_broker_only_beside_a_given_broker_is_refused_without_its_secrets():
    given = {"NATS_URL": "nats://user:hush@127.0.0.1:4222"}
    done = CliRunner().invoke(main, ["up", "--broker-only"], env=given)
    assert done.exit_code == 2
    assert "NATS_URL names a broker that runs already: nats://127.0.0.1:4222" in done.output
    assert "hush" not in done.output
