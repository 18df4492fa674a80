"""Where the stores differ from S3: known in this one place, each difference with its reason.

A test asks for a store's `Behaviour`, never for its name, and test_stores.py holds each store to its own, so that one
that mends its ways, or picks up new ones, is noticed. All of this was seen with moto 5.2.5, rclone 1.75.2 and
Swift 2.38.3.
"""

from dataclasses import dataclass

MIB = 1024**2


@dataclass(frozen=True)
class Behaviour:
    """What a store does; the defaults are what S3's documentation says of S3."""

    #: A request signed with a wrong secret is refused.
    checks_signatures: bool = True
    #: A body that is not what its CRC-32 says is refused.
    checks_crc32: bool = True
    #: A part that is smaller, and not the last, makes the completion fail.
    least_part_bytes: int = 5 * MIB
    #: HEAD and GET have the ETag that completing a multipart upload answered: the MD5 of the parts' MD5s, and `-N`.
    keeps_multipart_etags: bool = True
    #: Listing the unfinished uploads of a bucket that has had none gives none.
    lists_uploads_before_the_first: bool = True
    #: The names of an object's metadata come back in lowercase.
    lowercases_metadata_names: bool = True
    #: A key is any string: a segment of dots is one like another.
    takes_dots_in_keys: bool = True
    #: A put with `If-None-Match: *` does not replace an object.
    heeds_if_none_match: bool = True
    #: A presigned URL is good for the headers that it was signed with, its length among them, its key, and its time.
    binds_presigned_urls: bool = True
    #: What a presigned URL is answered after its time.
    answers_late_urls: int = 403
    #: What a part's URL is answered a second time, with other bytes: before the upload was completed, and after.
    answers_a_part_again: int = 200
    answers_a_part_after_completion: int = 404
    #: An object is what it was when its upload was completed, whatever is sent to its parts' URLs afterwards.
    keeps_completed_objects: bool = True
    #: A put whose SHA-256 is not that of its `x-amz-checksum-sha256` is refused.
    checks_sha256: bool = True
    #: Pages of origins that it was told of may send to it: by `PutBucketCors`, or in its own configuration.
    knows_origins: bool = True
    #: A range of an object comes with 206, as well as with Content-Range.
    answers_ranges_with_206: bool = True
    #: A range of an object does not come with the checksum of the whole, which would not be that of the bytes given.
    keeps_checksums_from_ranges: bool = True
    #: The CRC-32 that a put was given comes back to who asks for it.
    gives_checksums_back: bool = True
    #: A suffix range longer than the object gives the whole object (RFC 9110, section 14.1.2).
    serves_longer_suffixes: bool = True


S3 = Behaviour()

BEHAVIOURS = {
    # moto is made for tests of callers: it stores what it is given, and holds nobody to a signature or a checksum.
    "moto": Behaviour(
        checks_signatures=False,
        checks_crc32=False,
        binds_presigned_urls=False,
        checks_sha256=False,
        answers_late_urls=200,
        answers_a_part_after_completion=500,
    ),
    "rclone": Behaviour(
        checks_crc32=False,  # it keeps the CRC-32 as one more header of the object, and gives it back unread
        least_part_bytes=0,  # it writes the parts one after the other into one file: no size is too small for that
        keeps_multipart_etags=False,  # the object is that file, and its ETag the MD5 of the file
        lists_uploads_before_the_first=False,  # gofakes3, its S3 library: a bucket without uploads is not known to it
        lowercases_metadata_names=False,  # Go's net/http has every header in canonical form: Request-Id
        takes_dots_in_keys=False,  # a key is a file's path; one that would mean another file is refused
        heeds_if_none_match=False,  # not implemented
        checks_sha256=False,  # likewise
        answers_late_urls=400,  # its own error for a request that is too old
        answers_a_part_again=501,  # a part is written to the file as it comes, and cannot be taken out of it again
        knows_origins=False,  # likewise; its answer to an upload lets every origin read it, its preflights none
        answers_ranges_with_206=False,  # gofakes3 gives the range with 200
        keeps_checksums_from_ranges=False,  # one more header of the object; so boto must not validate unasked
        serves_longer_suffixes=False,  # gofakes3: such a range begins before the first byte, so it is 416
    ),
    "swift": Behaviour(
        # A completed object is a list of its parts, which stay objects of their own, each under its URL (a static large
        # object): one that is replaced is not the one that is listed any more, and the whole can be read no further.
        answers_a_part_after_completion=200,
        keeps_completed_objects=False,
        gives_checksums_back=False,  # s3api, its S3 middleware, checks a checksum and forgets it
    ),
}


def behaviour_of(store_name: str) -> Behaviour:
    """What the store of this name does; one that is not known here is taken for S3."""
    return BEHAVIOURS.get(store_name, S3)
