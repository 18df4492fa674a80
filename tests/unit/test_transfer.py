"""Transfer encodings are decoded in any split; broken ones are rejected by name."""

import base64
import quopri
from itertools import pairwise

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from filehandoff.errors import FormMalformed
from filehandoff.transfer import decoder


def decode(name: str, encoded: bytes, places: list[int], *, ends: bool = True) -> bytes | str:
    """Decode an encoding cut at these places; return the bytes or the error's message.

    If it does not end, more bytes may follow.
    """
    known = decoder(name, 3)
    assert known is not None
    decoded = b""
    try:
        for begin, end in pairwise([0, *sorted(places), len(encoded)]):
            decoded += b"".join(known.decode(encoded[begin:end]))
        return decoded + known.finish() if ends else decoded
    except FormMalformed as error:
        return error.detail


def bytewise(encoded: bytes) -> list[int]:
    """Return the cuts that make each byte a chunk."""
    return list(range(len(encoded)))


cuts = st.lists(st.integers(0, 300), max_size=9)


@given(st.binary(max_size=200), cuts, st.sampled_from([b"", b"\r\n", b"\n", b" "]))
def test_base64_is_decoded_in_any_split(data: bytes, places: list[int], end: bytes) -> None:
    """Base64 with any lines and added white space has the same bytes."""
    for encoded in (base64.encodebytes(data).replace(b"\n", b"\r\n"), base64.b64encode(data) + end):
        places = [min(place, len(encoded)) for place in places]
        assert decode("base64", encoded, places) == decode("BASE64 ", encoded, bytewise(encoded)) == data


@given(st.binary(max_size=200), cuts)
def test_quoted_printable_is_decoded_in_any_split(data: bytes, places: list[int]) -> None:
    """The output of Python's own encoder is decoded, with line ends of either kind."""
    encoded = quopri.encodestring(data, quotetabs=True)
    places = [min(place, len(encoded)) for place in places]
    expected = quopri.decodestring(encoded)
    assert decode("quoted-printable", encoded, places) == expected
    assert decode("Quoted-Printable", encoded, bytewise(encoded)) == expected


@given(
    st.lists(st.sampled_from([b"=", b"=4", b"41", b" ", b"\t", b"\r", b"\n", b"a", b"Z", b"=C3"]), max_size=12), cuts
)
def test_any_quoted_printable_has_one_outcome(pieces: list[bytes], places: list[int]) -> None:
    """Escapes, white space and line ends in any order have one outcome in every split."""
    encoded = b"".join(pieces)
    whole = decode("quoted-printable", encoded, [])
    assert decode("quoted-printable", encoded, [min(place, len(encoded)) for place in places]) == whole
    assert decode("quoted-printable", encoded, bytewise(encoded)) == whole


@example(b"aGVsbG8=aG", [8])
@given(st.text("Aa+/= \r\n!", max_size=20).map(str.encode), cuts)
def test_any_base64_has_one_outcome(encoded: bytes, places: list[int]) -> None:
    """Base64, and bytes that are nearly base64, have one outcome in every split, before their end too."""
    places = [min(place, len(encoded)) for place in places]
    for ends in (True, False):
        whole = decode("base64", encoded, [], ends=ends)
        assert decode("base64", encoded, places, ends=ends) == whole
        assert decode("base64", encoded, bytewise(encoded), ends=ends) == whole


@pytest.mark.parametrize(
    ("encoded", "data"),
    [
        pytest.param(b"a=3Db", b"a=b", id="an escape"),
        pytest.param(b"=c3=C3", b"\xc3\xc3", id="hex in either case"),
        pytest.param(b"a=\r\nb=  \t\nc", b"abc", id="soft line breaks"),
        pytest.param(b"a \t\r\nb ", b"a\r\nb", id="white space at the end of a line (RFC 2045, section 6.7, rule 3)"),
        pytest.param(b"a  b\r", b"a  b\r", id="white space in a line, and a CR"),
        pytest.param(b"a=", b"a", id="a soft line break whose line end is the delimiter's"),
        pytest.param(b" " * 1024 + b"\r\n", b"\r\n", id="much white space"),
    ],
)
def test_quoted_printable_follows_the_rfc(encoded: bytes, data: bytes) -> None:
    """The rules of RFC 2045, section 6.7, hold at the edges of chunks too."""
    assert decode("quoted-printable", encoded, []) == decode("quoted-printable", encoded, bytewise(encoded)) == data


@pytest.mark.parametrize(
    ("name", "encoded"),
    [
        pytest.param("base64", b"YQ", id="base64 that is cut"),
        pytest.param("base64", b"YQ==YQ==", id="base64 behind its padding"),
        pytest.param("base64", b"YQ==\r\n\r\nYQ==", id="base64 behind its padding and a line end"),
        pytest.param("base64", b"Y!==", id="a character outside base64"),
        pytest.param("base64", b"=YQ=", id="padding first"),
        pytest.param("base64", b"seven lines, of text", id="text that was never encoded"),
        pytest.param("quoted-printable", b"a=ZZ", id="an escape that is none"),
        pytest.param("quoted-printable", b"a=4", id="an escape that is cut"),
        pytest.param("quoted-printable", b"=\rb", id="a bare CR in a soft line break"),
        pytest.param("quoted-printable", b" " * 1025 + b"a", id="white space without end"),
        pytest.param("quoted-printable", b" " * 1025, id="white space without end, at the end"),
    ],
)
def test_a_broken_encoding_is_refused_by_name(name: str, encoded: bytes) -> None:
    """The error has the number of the part and the name of the encoding."""
    expected = f"Part 3 is not valid {name}, despite its Content-Transfer-Encoding."
    assert decode(name, encoded, []) == decode(name, encoded, bytewise(encoded)) == expected


@pytest.mark.parametrize("name", ["", "7bit", "8BIT", " binary\t"])
def test_no_encoding_needs_no_decoder(name: str) -> None:
    """Unencoded bytes have no decoder."""
    assert decoder(name, 1) is None


def test_another_encoding_is_refused_by_name() -> None:
    """The error names an unknown encoding, of any length."""
    with pytest.raises(FormMalformed, match="Part 1 has the Content-Transfer-Encoding 'x-uuencode'"):
        decoder("x-uuencode", 1)
    with pytest.raises(FormMalformed) as caught:
        decoder("x" * 4000, 1)
    assert len(caught.value.detail) < 200
