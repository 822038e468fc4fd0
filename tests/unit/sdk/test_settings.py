from typing import Annotated

import pytest
from msgspec import Meta, Struct

from microopt.errors import ConfigError
from microopt.settings import HttpSettings, LogSettings, NatsSettings, Settings


class Wire(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, tag_field="kind", tag="wire"):
    colour: str = "red"


class Radio(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, tag_field="kind", tag="radio"):
    frequency: float = 3500.0


class Inner(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    depth: int = 1


class Outer(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    name: str = "outer"
    ratio: Annotated[float, Meta(ge=0.0, le=1.0)] = 0.5
    inner: Inner = Inner()
    maybe: Inner | None = None
    parts: tuple[Wire | Radio, ...] = ()
    by_name: dict[str, Inner] = {}


@pytest.fixture
def load(tmp_path):
    """Write a file of settings and load it, with nothing in the environment but what is given."""

    def from_text(text: str, suffix: str = "toml", **environ: str) -> Settings:
        path = tmp_path / f"settings.{suffix}"
        path.write_text(text)
        return Settings.load(path, environ)

    return from_text


def outer(load, text: str, suffix: str = "toml") -> Outer:
    return load(text, suffix).table("router", Outer)


@pytest.mark.parametrize(
    ("suffix", "text"),
    [
        ("toml", '[router]\nname = "a"\ninner = { depth = 2 }\n[[router.parts]]\nkind = "radio"\n'),
        ("yaml", "router:\n  name: a\n  inner: {depth: 2}\n  parts: [{kind: radio}]\n"),
        ("yml", "router:\n  name: a\n  inner: {depth: 2}\n  parts:\n    - kind: radio\n"),
    ],
)
def test_toml_and_yaml_say_the_same(load, suffix, text):
    assert outer(load, text, suffix) == Outer(name="a", inner=Inner(depth=2), parts=(Radio(),))


@pytest.mark.parametrize(("suffix", "text"), [("toml", ""), ("yaml", ""), ("yaml", "# nothing\n")])
def test_an_empty_file_is_all_defaults(load, suffix, text):
    assert outer(load, text, suffix) == Outer()


def test_the_environment_wins_over_the_file_key_by_key(load):
    settings = load('[http]\nport = 1\nhost = "::1"', MICROOPT_HTTP_PORT="0")
    assert settings.table("http", HttpSettings) == HttpSettings(port=0, host="::1")


def test_nats_url_is_short_for_the_url_and_the_long_name_wins(load):
    assert load("", NATS_URL="nats://a").table("nats", NatsSettings).url == "nats://a"
    both = load('[nats]\nurl = "nats://file"', NATS_URL="nats://a", MICROOPT_NATS_URL="nats://b")
    assert both.table("nats", NatsSettings).url == "nats://b"
    assert load('[nats]\nurl = "nats://file"', NATS_URL="").table("nats", NatsSettings).url == "nats://file"


def test_lists_and_tables_are_json_in_the_environment(load):
    parts = '[{"kind": "wire", "colour": "blue"}]'
    settings = load("", MICROOPT_ROUTER_PARTS=parts, MICROOPT_ROUTER_INNER='{"depth": 7}')
    assert settings.table("router", Outer) == Outer(inner=Inner(depth=7), parts=(Wire(colour="blue"),))


def test_json_in_the_environment_that_is_cut_off_names_the_variable(load):
    with pytest.raises(ConfigError, match="MICROOPT_ROUTER_PARTS: not valid JSON"):
        load("", MICROOPT_ROUTER_PARTS='[{"kind": "wire"')


def test_variables_that_are_no_settings_are_left_alone(load):
    settings = load("", MICROOPT_CONFIG="elsewhere", MICROOPT_DATA="/data", HOME="/")
    assert settings.table("http", HttpSettings) == HttpSettings()


def test_the_file_may_be_named_by_the_environment(tmp_path):
    path = tmp_path / "named.toml"
    path.write_text("[http]\nport = 7")
    assert Settings.load(environ={"MICROOPT_CONFIG": str(path)}).table("http", HttpSettings).port == 7


def test_the_file_of_the_working_folder_is_found(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert Settings.load(environ={}).table("http", HttpSettings).port is None
    (tmp_path / "microopt.toml").write_text("[http]\nport = 7")
    assert Settings.load(environ={}).table("http", HttpSettings).port == 7


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("[htp]\nport = 1", r"table \[htp\]: unknown table 'htp'; did you mean 'http'\?"),
        ("[zzz]", r"table \[zzz\]: unknown table 'zzz'; known: actuator, auditor, broker"),
        ("port = 1", "port must be a table"),
        ("[http", r"cannot be parsed: Expected '\]'"),
    ],
)
def test_a_table_that_nothing_reads_is_refused_with_the_file(load, text, said):
    with pytest.raises(ConfigError, match=rf"settings\.toml: {said}"):
        load(text)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("a: [", "cannot be parsed"),
        ("- a", "expected tables"),
        ("http:", "http must be a table"),
        ("7: {}", r"table \[7\]: unknown table '7'"),
        ("http: {port: 1}\nhttp: {port: 2}", "cannot be parsed: 'http' is given twice"),
        ("http: {host: 2026-13-45}", "cannot be parsed: month"),
        ("[a]: {}", "cannot be parsed: a name must be text"),
        pytest.param("[" * 5000, "cannot be parsed", id="very deep"),
    ],
)
def test_yaml_that_is_no_settings_is_refused_with_the_file(load, text, said):
    with pytest.raises(ConfigError, match=rf"settings\.yaml: {said}"):
        load(text, "yaml")


def test_names_in_yaml_are_the_text_that_was_written(load):
    text = "router:\n  by_name: {on: {depth: 2}, 000001: {depth: 3}, ~: {depth: 4}}"
    assert set(outer(load, text, "yaml").by_name) == {"on", "000001", "~"}


def test_a_variable_of_an_unknown_table_is_refused(load):
    with pytest.raises(ConfigError, match=r"MICROOPT_HTTPS_PORT: unknown table 'https'; did you mean 'http'\?"):
        load("", MICROOPT_HTTPS_PORT="1")


def test_a_file_that_is_not_there_or_not_text_is_named(tmp_path):
    with pytest.raises(ConfigError, match=r"none\.toml: cannot be read: .*No such file"):
        Settings.load(tmp_path / "none.toml", {})
    with pytest.raises(ConfigError, match=r"cannot be read: .*Is a directory"):
        Settings.load(tmp_path, {})
    binary = tmp_path / "binary.toml"
    binary.write_bytes(b"\xff\xfe\x00")
    with pytest.raises(ConfigError, match=r"binary\.toml: cannot be read"):
        Settings.load(binary, {})


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("namee = 'x'", r"unknown key 'namee'; did you mean 'name'\?$"),
        ("qqq = 1", "unknown key 'qqq'; known: by_name, inner, maybe, name, parts, ratio$"),
        ("inner = { qqq = 1 }", r"unknown key 'qqq'; known: depth - at `\$\.inner`"),
        ("inner = { deepth = 1 }", r"unknown key 'deepth'; did you mean 'depth'\? - at `\$\.inner`"),
        ("maybe = { qqq = 1 }", r"unknown key 'qqq'; known: depth - at `\$\.maybe`"),
        ("by_name = { a = { qqq = 1 } }", "unknown key 'qqq'; known: depth"),
        ("parts = [{ kind = 'wire' }, { kind = 'radio', colour = 'red' }]", "known: frequency - at `.*parts.1."),
        ("parts = [{ kind = 'wire', frequency = 1.0 }]", "known: colour - at `.*parts.0."),
        ("parts = [{ kind = 'pipe' }]", r"'pipe' - at `\$\.parts\[0\]\.kind`"),
        ("parts = [{ colour = 'red' }]", r"missing required field `kind` - at `\$\.parts\[0\]`"),
        ("name = 7", r"Expected `str`, got `int` - at `\$\.name`"),
        ("ratio = 1.5", r"`float` <= 1\.0 - at `\$\.ratio`"),
        ("ratio = nan", r"- at `\$\.ratio`"),
        ("inner = { depth = 'deep' }", r"- at `\$\.inner\.depth`"),
        ("inner = 3", r"Expected `object`, got `int` - at `\$\.inner`"),
    ],
)
def test_a_key_that_cannot_be_used_is_named_with_the_keys_beside_it(load, text, said):
    with pytest.raises(ConfigError, match=rf"settings\.toml: \[router\] .*{said}"):
        outer(load, f"[router]\n{text}")


def test_a_wrong_value_from_the_environment_names_the_variable_and_not_the_file(load):
    with pytest.raises(ConfigError, match=r"^environment variable MICROOPT_HTTP_PORT: \[http\] .*\$\.port"):
        load("[http]\nhost = 'a'", MICROOPT_HTTP_PORT="many").table("http", HttpSettings)
    with pytest.raises(ConfigError, match=r"^environment variable MICROOPT_HTTP_PROT: .*unknown key 'prot'"):
        load("", MICROOPT_HTTP_PROT="1").table("http", HttpSettings)
    with pytest.raises(ConfigError, match=r"settings\.toml: \[http\] .*\$\.host"):
        load("[http]\nhost = 1", MICROOPT_HTTP_PORT="1").table("http", HttpSettings)


@pytest.mark.parametrize("port", ["-1", "65536", "1.5", ""])
def test_a_port_that_cannot_be_is_refused(load, port):
    with pytest.raises(ConfigError, match=r"\$\.port"):
        load("", MICROOPT_HTTP_PORT=port).table("http", HttpSettings)


def test_a_choice_that_does_not_exist_is_refused(load):
    with pytest.raises(ConfigError, match=r"'loud' - at `\$\.level`"):
        load("", MICROOPT_LOG_LEVEL="loud").table("log", LogSettings)


def test_no_value_is_quoted_for_a_secret_has_no_place_in_an_error(load):
    with pytest.raises(ConfigError) as wrong:
        load("[nats]\npassword = 271828\ntoken = 'hush'").table("nats", NatsSettings)
    assert "271828" not in str(wrong.value)
    assert "hush" not in str(wrong.value)
