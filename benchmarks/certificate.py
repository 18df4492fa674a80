"""Make a certificate for a server on loopback, and trust it."""

import ipaddress
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec


@contextmanager
def temporary_certificate() -> Iterator[Path]:
    """A file with a self-signed certificate for 127.0.0.1 and its key, for the block."""
    with tempfile.NamedTemporaryFile(suffix=".pem") as file:
        file.write(_made())
        file.flush()
        yield Path(file.name)


def _made() -> bytes:
    key, now = ec.generate_private_key(ec.SECP256R1()), datetime.now(UTC)
    name = x509.Name.from_rfc4514_string("CN=127.0.0.1")
    address = x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address("127.0.0.1"))])
    certificate = (
        x509.CertificateBuilder(name, name, key.public_key(), x509.random_serial_number())
        .not_valid_before(now - timedelta(hours=1))
        .not_valid_after(now + timedelta(days=2))
        .add_extension(address, critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    encoding, kind = serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8
    return certificate.public_bytes(encoding) + key.private_bytes(encoding, kind, serialization.NoEncryption())


def trusting(certificate: Path) -> dict[str, str]:
    """The environment in which botocore and OpenSSL trust a certificate."""
    return {"AWS_CA_BUNDLE": str(certificate), "SSL_CERT_FILE": str(certificate)}
