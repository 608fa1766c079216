"""A certificate for servers of tests."""

import ssl
from pathlib import Path

#: Of a server named localhost, signed by itself, good until 2120. Nothing else trusts it.
CERTIFICATE_AND_KEY = """\
-----BEGIN PRIVATE KEY-----
MIGHAgEAMBMGByqGSM49AgEGCCqGSM49AwEHBG0wawIBAQQgw14MZ2RL8NVtFNxk
90sj1mqG0R1jHAPD9PChcjaPDaGhRANCAATXdmZPhEBCCX/pCmSN2uGc0v72JJAR
NNpxqTmozM0eLnCorxwOe/v+Wk3emrf+n30IKdJHEnt3dIQ5wOPQZV/e
-----END PRIVATE KEY-----
-----BEGIN CERTIFICATE-----
MIIBYTCCAQegAwIBAgIBATAKBggqhkjOPQQDAjAUMRIwEAYDVQQDDAlsb2NhbGhv
c3QwIBcNMjAwMTAxMDAwMDAwWhgPMjEyMDAxMDEwMDAwMDBaMBQxEjAQBgNVBAMM
CWxvY2FsaG9zdDBZMBMGByqGSM49AgEGCCqGSM49AwEHA0IABNd2Zk+EQEIJf+kK
ZI3a4ZzS/vYkkBE02nGpOajMzR4ucKivHA57+/5aTd6at/6ffQgp0kcSe3d0hDnA
49BlX96jSDBGMA8GA1UdEwEB/wQFMAMBAf8wHQYDVR0OBBYEFAe+9I3jdwYa89pe
vFIr7SX043vjMBQGA1UdEQQNMAuCCWxvY2FsaG9zdDAKBggqhkjOPQQDAgNIADBF
AiEAnonN1fpcTrV08K32YKvfWwEXjjVg5bsYIzF6EcIRPIYCIFFADHVwEWJPGsDN
ehiIvCYdtO1FAGGwJb0NObuzshx0
-----END CERTIFICATE-----
"""


def written_to(folder: Path) -> Path:
    """The certificate and its key, as a file."""
    path = folder / "localhost.pem"
    path.write_text(CERTIFICATE_AND_KEY)
    return path


def server_context(pem: Path) -> ssl.SSLContext:
    """What a server of that name has."""
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(pem)
    return context
