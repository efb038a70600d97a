"""What is written as TOML is read back as it was."""

import tomllib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.settings.toml_text import to_toml

TEXT = st.text(st.characters(exclude_categories=["Cs"]))
SCALARS = st.booleans() | st.integers(-(2**63), 2**63 - 1) | st.floats(allow_nan=False, allow_infinity=False) | TEXT
VALUES = st.recursive(
    SCALARS, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXT, inner, max_size=3), max_leaves=8
)


@given(st.dictionaries(TEXT, VALUES, max_size=5))
def test_round_trip(data):
    """Whatever the keys and values are, and however they are nested."""
    assert tomllib.loads(to_toml(data, {})) == data


def test_it_is_readable():
    """Values before tables, arrays of tables, and above each header what there is to say of it."""
    data = {
        "site": [{"certificate": [{"chain": "/c.pem"}], "upstream": ["http://a/", {"url": "http://b/", "weight": 2}]}],
        "workers": 1,
        "tls": {"protocols": ["TLSv1.3"]},
        "http": {},
    }
    assert to_toml(data, {"site[0]": "from x.conf:3", "site[0].certificate[0]": "from x.conf:5"}) == (
        "workers = 1\n"
        "\n"
        "# from x.conf:3\n"
        "[[site]]\n"
        'upstream = ["http://a/", { url = "http://b/", weight = 2 }]\n'
        "\n"
        "# from x.conf:5\n"
        "[[site.certificate]]\n"
        'chain = "/c.pem"\n'
        "\n"
        "[tls]\n"
        'protocols = ["TLSv1.3"]\n'
        "\n"
        "[http]\n"
    )


def test_what_toml_cannot_hold():
    """Text that is no Unicode, as a file's name may be, is a ValueError; None is a mistake of ours."""
    with pytest.raises(ValueError, match="surrogates"):
        to_toml({"a": "\udcff"}, {})
    with pytest.raises(TypeError, match="TOML has no NoneType"):
        to_toml({"a": None}, {})
