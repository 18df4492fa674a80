"""The head of a part: clients' forms of names are read completely or rejected."""

import pytest

from filehandoff.errors import FormMalformed
from filehandoff.part_head import PartHead, charset_of, known_charset, read_parameters


def head(parameters: str | bytes, *lines: bytes, charset: str | None = None) -> PartHead:
    """Return the head of a part with these parameters in its Content-Disposition."""
    encoded = parameters.encode() if isinstance(parameters, str) else parameters
    return PartHead.of([b"Content-Disposition: form-data" + encoded, *lines], 1, charset)


@pytest.mark.parametrize(
    ("parameters", "filename"),
    [
        # Without quotes (RFC 2616 tokens, and beyond)
        pytest.param("filename=photo(1).jpg", "photo(1).jpg", id="parentheses, as Cura sends"),
        pytest.param("filename=my holiday.jpg", "my holiday.jpg", id="a space without quotes"),
        pytest.param("filename=über.txt", "über.txt", id="UTF-8 without quotes"),
        pytest.param("filename=[1]report.pdf", "[1]report.pdf", id="brackets"),
        pytest.param("filename=icon@2x.png", "icon@2x.png", id="an at sign"),
        pytest.param("filename=a=b,c.txt ", "a=b,c.txt", id="an equals sign and a comma"),
        pytest.param('filename=te"st.txt', 'te"st.txt', id="a quote inside"),
        # With quotes
        pytest.param('filename="a;b.txt"', "a;b.txt", id="a semicolon"),
        pytest.param('filename="test".png"', 'test".png', id="mscdex/busboy#292 (Postman)"),
        pytest.param('filename="a"b"c.txt"', 'a"b"c.txt', id="two quotes inside"),
        pytest.param('filename="a\\"b.txt"', 'a"b.txt', id="a quote as RFC 2616 escapes it"),
        pytest.param('filename="a\\\\b.txt"', "a\\b.txt", id="a backslash as RFC 2616 escapes it"),
        pytest.param('filename="C:\\fakepath\\a.txt"', "C:\\fakepath\\a.txt", id="a path of Internet Explorer"),
        pytest.param('filename="a\\"', "a\\", id="a backslash at the end, which browsers do not escape"),
        pytest.param('filename="%22a%0D%0ab%25.txt"', '"a\r\nb%25.txt', id="the HTML standard's escapes"),
        pytest.param('filename="%E4%BD%A0.txt"', "%E4%BD%A0.txt", id="percent-encoding that aiohttp sends, kept"),
        pytest.param('filename=""', "", id="empty"),
        # Extended (RFC 8187)
        pytest.param("filename*=utf-8''%E2%82%AC%20rates.txt", "€ rates.txt", id="alone: pillarjs/multiparty#31"),
        pytest.param("filename*=UTF-8'en'a.txt", "a.txt", id="with a language"),
        pytest.param("filename=\"u.txt\"; filename*=ISO-8859-1''%FCber.txt", "über.txt", id="in Latin-1"),
        pytest.param("filename*=utf-8''%C3%BC.txt; filename=u.txt", "ü.txt", id="before the plain one"),
        pytest.param("filename=\"-2.jpg\"; filename*=utf-8''%EC%9D%B4-2.jpg", "이-2.jpg", id="react-native#44737"),
        pytest.param("filename*=utf-8''%FF.txt", "\ufffd.txt", id="bytes that the charset does not have"),
        pytest.param("filename=\"a.txt\"; filename*=klingon''b.txt", "a.txt", id="an unknown charset beside a name"),
        pytest.param("filename*=klingon''%C3%BC.txt", "ü.txt", id="an unknown charset alone"),
        pytest.param("filename*=a%20b.txt", "a b.txt", id="no charset"),
        pytest.param("filename*=\"utf-8''a%20b.txt\"", "a b.txt", id="in quotes, against the RFC"),
        # In pieces (RFC 2231)
        pytest.param('filename*0="ab"; filename*1="cd%.txt"', "abcd%.txt", id="pieces"),
        pytest.param("filename*0*=utf-8''%C3; filename*1*=%BC; filename*2=.txt", "ü.txt", id="encoded pieces"),
        # Encoded words (RFC 2047)
        pytest.param('filename="=?utf-8?B?w7xiZXIudHh0?="', "über.txt", id=".NET: dotnet/corefx#22806"),
        pytest.param('filename="=?utf-8?B?w7w=?= =?iso-8859-1?Q?=FCb?="', "üüb", id="two encoded words"),
        pytest.param('filename="=?utf-8?B?w?="', "=?utf-8?B?w?=", id="a broken encoded word"),
        pytest.param('filename="=?klingon?B?w7w=?="', "=?klingon?B?w7w=?=", id="an encoded word of no charset"),
        pytest.param('filename="=?x?=.txt"', "=?x?=.txt", id="a name that looks like one"),
        # White space and case
        pytest.param(' FileName\t = \t"a.txt"\t', "a.txt", id="white space and capitals"),
        pytest.param('; ;filename="a.txt";', "a.txt", id="semicolons"),
        pytest.param('filename="a.txt"; filename="a.txt"', "a.txt", id="the same twice"),
    ],
)
def test_a_filename_is_read_whole(parameters: str, filename: str) -> None:
    """Each client's form of a filename gives the client's filename."""
    for text in (f'; name="file"; {parameters}', f";name=file;{parameters}", f"; {parameters}; name=file"):
        part = head(text)
        assert (part.name, part.filename) == ("file", filename)


def test_names_may_be_extended_too() -> None:
    """The requests library's `name*` for names outside ASCII is read (psf/requests#2505)."""
    assert head("; name*=utf-8''f%C3%BC; filename*=utf-8''a.txt").name == "fü"


def test_a_name_in_a_code_page_is_taken() -> None:
    """Bytes that are not UTF-8 become U+FFFD (curl/curl#10261), or text by the form's own charset."""
    parameters = '; name="file"; filename="Prüfung.txt"'.encode("latin-1")
    assert head(parameters).filename == "Pr\ufffdfung.txt"
    assert head(parameters, charset="windows-1252").filename == "Prüfung.txt"
    assert head('; name="file"; filename="ü"', charset="windows-1252").filename == "ü"


@pytest.mark.parametrize(
    ("line", "message"),
    [
        pytest.param(b"Content-Disposition: form-data", "has no name", id="no name"),
        pytest.param(b"A: b", "has no name", id="no disposition"),
        pytest.param(b'Content-Disposition: form-data; name=""', "has no name", id="an empty name"),
        pytest.param(b"Content-Disposition: attachment; name=a", "is no 'form-data'", id="another disposition"),
        pytest.param(b"Content-Disposition: form-data; name=a; name=b", "has two parameters 'name'", id="two names"),
        pytest.param(
            b"Content-Disposition: form-data; name=a; filename=a;b.txt", "'b.txt' in place", id="a name with no quotes"
        ),
        pytest.param(
            b'Content-Disposition: form-data; name=a; filename="a"; x=b.txt"', "quote out of place", id="a lone quote"
        ),
        pytest.param(b"Content-Disposition: form-data; name=a;=b", "'=b' in place", id="a parameter without a name"),
        pytest.param(b" folded", "begins with white space", id="a fold of no line"),
        pytest.param(b"no colon", "has a line that is no header", id="no colon"),
        pytest.param(b" : a", "begins with white space", id="a fold first"),
        pytest.param(b": a", "has a line that is no header", id="no header's name"),
    ],
)
def test_a_head_that_cannot_be_read_is_refused(line: bytes, message: str) -> None:
    """The error has the part's number and the fault."""
    with pytest.raises(FormMalformed, match=f"part 7.*{message}|Part 7 {message}"):
        PartHead.of([line], 7, None)


@pytest.mark.parametrize("name", ["Content-Disposition", "content-type", "Content-Transfer-ENCODING"])
def test_a_header_that_means_one_thing_may_stand_once(name: str) -> None:
    """A second header is an error, since a proxy may read the other one."""
    line = name.encode() + b": form-data; name=a"
    with pytest.raises(FormMalformed, match=f"has several {name.title()} headers"):
        PartHead.of([line, line, b"Content-Disposition: form-data; name=a"], 1, None)


def test_headers_may_be_folded_and_spaced() -> None:
    """White space around a header's name, and folded lines, are accepted (RFC 5322, 4.2)."""
    part = PartHead.of([b"Content-Disposition :form-data;", b'\tname="a"', b"X:  b \t"], 1, None)
    assert part.name == "a"
    assert part.values("x") == ["b"]
    assert (part.value("x"), part.value("y")) == ("b", "")


def test_a_long_name_of_quotes_and_backslashes_costs_little() -> None:
    """A head line at its limit is read in one pass, without backtracking."""
    for filler in ('\\"', "\\\\", '" ', '";a', "; ", " ", "=?", "a=", "%22", '";a=', "\\"):
        for end in ("", '"', '"x', '";'):
            line = f'; name=a; filename="{filler * (4000 // len(filler))}{end}'
            try:
                assert head(line).name
            except FormMalformed:
                continue


@pytest.mark.parametrize(
    ("name", "charset"),
    [
        pytest.param("UTF-8", "utf-8", id="UTF-8"),
        pytest.param("windows-1252", "cp1252", id="a code page"),
        pytest.param("Shift_JIS", "shift_jis", id="Japanese"),
        pytest.param("iso-8859-12", None, id="one that does not exist"),
        pytest.param("punycode", None, id="a codec that is no charset"),
        pytest.param("", None, id="none"),
    ],
)
def test_charsets_are_those_that_clients_use(name: str, charset: str | None) -> None:
    """A Python codec is a charset only if clients use it."""
    assert known_charset(name) == charset


def test_a_charset_is_read_from_a_media_type() -> None:
    """The charset comes from the media type; a malformed one has no charset."""
    assert charset_of('text/plain; charset="UTF-8"') == "utf-8"
    assert charset_of("text/plain; x") is None
    assert charset_of("") is None


def test_parameters_come_with_the_value_before_them() -> None:
    """The value is the text before the first semicolon."""
    assert read_parameters(" text/plain ; a=b") == ("text/plain", {"a": "b"})
    assert read_parameters("") == ("", {})
