import re

import pytest

from microopt import subjects
from microopt.errors import ConfigError
from microopt.ids import NAME_PATTERN
from microopt_optimizer.versions.names import parsed, require_name, versioned


def test_a_version_is_called_by_what_slices_and_subjects_allow_and_is_told_apart_again():
    called = versioned("embb", 12)
    assert called == "embb--12"
    assert re.fullmatch(NAME_PATTERN, called)
    assert subjects.optimize(called).endswith(called)
    assert parsed(called) == ("embb", 12)
    assert versioned("embb", 0) == "embb"


@pytest.mark.parametrize("name", ["embb", "embb-12", "embb--", "embb--0", "embb--012", "embb--x", "--3"])
def test_what_is_no_version_stands_for_itself(name):
    assert parsed(name) == (name, 0)


@pytest.mark.parametrize("name", ["embb--3", "Embb", "a b", "", "a.b", "x" * 61])
def test_a_name_that_cannot_have_versions_is_refused(name):
    with pytest.raises(ConfigError, match="model name"):
        require_name(name)


def test_the_number_has_to_fit_too():
    require_name("x" * 60)
    with pytest.raises(ConfigError, match="too long for a version"):
        require_name("x" * 60, 10)
