"""The stores' differences from S3, each with its reason.

A test asks for a store's `Behaviour`, never for its name. test_stores.py checks each store against its own, so that a
fixed or a new difference shows. Observed with moto 5.2.5, rclone 1.75.2 and Swift 2.38.3.
"""

from dataclasses import dataclass

MIB = 1024**2


@dataclass(frozen=True)
class Behaviour:
    """A store's behaviour; the defaults are S3's documented behaviour."""

    #: It refuses a request signed with a wrong secret.
    checks_signatures: bool = True
    #: It refuses a body with a wrong CRC-32.
    checks_crc32: bool = True
    #: Smallest size of a part before the last; a smaller one fails the completion.
    least_part_bytes: int = 5 * MIB
    #: HEAD and GET return the ETag of the completion: the MD5 of the parts' MD5s, and `-N`.
    keeps_multipart_etags: bool = True
    #: It lists no unfinished uploads for a bucket that never had one, instead of an error.
    lists_uploads_before_the_first: bool = True
    #: It returns metadata names in lowercase.
    lowercases_metadata_names: bool = True
    #: It takes any string as a key, with segments of dots too.
    takes_dots_in_keys: bool = True
    #: A put with `If-None-Match: *` does not replace an object.
    heeds_if_none_match: bool = True
    #: It compares and writes in one step: of several such puts at once, one succeeds.
    compares_and_writes_at_once: bool = True
    #: A presigned URL is valid only for its key, its time, and its signed headers, length included.
    binds_presigned_urls: bool = True
    #: Status of a request with an expired presigned URL.
    answers_late_urls: int = 403
    #: Status of a second PUT to a part's URL with other bytes, before completion and after.
    answers_a_part_again: int = 200
    answers_a_part_after_completion: int = 404
    #: Requests to part URLs after the completion do not change the object.
    keeps_completed_objects: bool = True
    #: It refuses a put whose SHA-256 differs from its `x-amz-checksum-sha256`.
    checks_sha256: bool = True
    #: Pages of configured origins may send to it, by `PutBucketCors` or the store's own configuration.
    knows_origins: bool = True
    #: A range has status 206 besides Content-Range.
    answers_ranges_with_206: bool = True
    #: A range does not carry the checksum of the whole object.
    keeps_checksums_from_ranges: bool = True
    #: It returns the CRC-32 of a put on request.
    gives_checksums_back: bool = True
    #: A suffix range longer than the object returns the whole object (RFC 9110, section 14.1.2).
    serves_longer_suffixes: bool = True


S3 = Behaviour()

BEHAVIOURS = {
    # moto is made for tests of S3 clients: it stores everything, and verifies no signature and no checksum. By
    # itself, it compares and then writes; demo/moto_server.py lets one writer in at a time
    "moto": Behaviour(
        checks_signatures=False,
        checks_crc32=False,
        binds_presigned_urls=False,
        checks_sha256=False,
        answers_late_urls=200,
    ),
    "rclone": Behaviour(
        checks_crc32=False,  # it stores the CRC-32 as a header and returns it unverified
        least_part_bytes=0,  # it appends the parts to one file, of any size
        keeps_multipart_etags=False,  # the object is that file, and its ETag the file's MD5
        lists_uploads_before_the_first=False,  # gofakes3, its S3 library, does not know a bucket without uploads
        lowercases_metadata_names=False,  # Go's net/http has every header in canonical form: Request-Id
        takes_dots_in_keys=False,  # a key is a file's path; one that resolves to another file is refused
        heeds_if_none_match=False,  # not implemented
        compares_and_writes_at_once=False,  # not implemented
        checks_sha256=False,  # not implemented
        answers_late_urls=400,  # its own error for an expired request
        answers_a_part_again=501,  # a received part is in the file and cannot be replaced
        knows_origins=False,  # not implemented; every origin may read the answer to an upload, but preflights fail
        answers_ranges_with_206=False,  # gofakes3 returns the range with 200
        keeps_checksums_from_ranges=False,  # it is just a header; boto must not validate it by default
        serves_longer_suffixes=False,  # gofakes3: the range begins before the first byte, hence 416
    ),
    "swift": Behaviour(
        # A completed object is a static large object: a list of its parts, which stay separate objects with their own
        # URLs. A replaced part no longer matches the list, and the object cannot be read beyond it.
        answers_a_part_after_completion=200,
        keeps_completed_objects=False,
        compares_and_writes_at_once=False,  # of eight such puts at once, six may succeed
        gives_checksums_back=False,  # s3api, its S3 middleware, verifies a checksum and discards it
    ),
}


def behaviour_of(store_name: str) -> Behaviour:
    """The behaviour of the named store; an unknown one counts as S3."""
    return BEHAVIOURS.get(store_name, S3)
