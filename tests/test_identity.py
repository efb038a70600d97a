"""Certificates and keys as they are found on disks: right, exchanged, encrypted, damaged."""

import base64
import os
import shlex
import subprocess
from contextlib import suppress
from datetime import timedelta

import pytest
from certs import NOW, OCSP_URI, key_pem, make_chain, make_issuer, new_key, pem, self_signed
from cryptography import x509
from cryptography.hazmat.primitives.hashes import SHA1
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    NoEncryption,
    PrivateFormat,
)
from cryptography.hazmat.primitives.serialization.pkcs12 import serialize_key_and_certificates
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from proxy.errors import ConfigError
from proxy.identity import find_issuer, key_text, load_identity, one_line, warnings
from proxy.settings.model import CertificateFiles

WHERE = "site[0].certificate[0]"


def problems_of(files):
    with pytest.raises(ConfigError) as caught:
        load_identity(files, where=WHERE)
    return [str(problem) for problem in caught.value.problems]


def replaced(files, **changes):
    return files.model_copy(update=changes)


def test_all_that_is_read_from_a_good_chain(tmp_path):
    """Names, responders in their order and of http alone, issuer, must-staple and the key of the cache."""
    uris = (OCSP_URI, "ldap://ocsp.test/", "https://b.test:8443/x", OCSP_URI)
    made = make_chain(tmp_path, names=["WWW.test", "*.www.test"], ocsp=uris, must_staple=True)
    identity = load_identity(made.files, where=WHERE)
    assert identity.label == "ec.chain.pem (EC secp256r1)"
    assert identity.leaf == made.leaf
    assert identity.intermediates == (made.issuer,)
    assert identity.issuer == made.issuer
    assert identity.names == ("www.test", "*.www.test")
    assert identity.ocsp_uris == (OCSP_URI, "https://b.test:8443/x")
    assert identity.must_staple
    assert identity.cache_key == made.leaf.fingerprint(SHA1())  # noqa: S303  the key of the cache, as Apache's
    assert warnings(identity, NOW) == ()


@pytest.mark.parametrize(
    ("kind", "text"), [("rsa", "RSA 2048"), ("ec", "EC secp256r1"), ("ed25519", "Ed25519"), ("ed448", "Ed448")]
)
def test_kinds_of_key(tmp_path, kind, text):
    assert key_text(load_identity(make_chain(tmp_path, kind=kind).files, where=WHERE).key) == text


def test_the_label_can_be_written_everywhere(tmp_path):
    """A file of Apache's may have bytes in its name that are no UTF-8."""
    made = make_chain(tmp_path)
    file = tmp_path / os.fsdecode(b"caf\xe9.pem")
    made.files.chain.rename(file)
    assert load_identity(replaced(made.files, chain=file), where=WHERE).label == "caf?.pem (EC secp256r1)"


def test_the_common_name_counts_only_without_alternative_names(tmp_path):
    assert load_identity(make_chain(tmp_path, names=None).files, where=WHERE).names == ("www.test",)
    assert load_identity(make_chain(tmp_path, names=["a.test"]).files, where=WHERE).names == ("a.test",)
    assert load_identity(make_chain(tmp_path, names=None, common_name="My server").files, where=WHERE).names == ()


def test_key_and_chain_in_one_file_as_haproxy_has_them(tmp_path):
    """Also with the EC PARAMETERS that `openssl ecparam -genkey` writes before the key."""
    made = make_chain(tmp_path)
    key = new_key("ec", "leaf").private_bytes(Encoding.PEM, PrivateFormat.TraditionalOpenSSL, NoEncryption())
    parameters = b"-----BEGIN EC PARAMETERS-----\nBggqhkjOPQMBBw==\n-----END EC PARAMETERS-----\n"
    both = made.write("both.pem", b"a comment\n" + parameters + key + pem(made.leaf, made.issuer))
    assert load_identity(CertificateFiles(chain=both, key=both), where=WHERE).leaf == made.leaf


def test_the_issuer_comes_from_its_file_when_the_chain_lacks_it(tmp_path):
    """The file may hold others too; the one that signed is taken."""
    made = make_chain(tmp_path)
    stranger = self_signed(tmp_path).leaf
    alone = made.write("leaf.pem", pem(made.leaf))
    issuers = made.write("issuers.pem", pem(stranger, made.issuer))
    assert load_identity(replaced(made.files, chain=alone, issuer=issuers), where=WHERE).issuer == made.issuer


def test_intermediates_from_a_file_of_their_own(tmp_path):
    """They are sent when the chain has only the certificate, as with Apache's SSLCertificateChainFile."""
    made = make_chain(tmp_path)
    leaf, *others = x509.load_pem_x509_certificates(made.files.chain.read_bytes())
    alone, further = tmp_path / "alone.pem", tmp_path / "further.pem"
    alone.write_bytes(pem(leaf))
    further.write_bytes(b"".join(map(pem, others)))
    identity = load_identity(replaced(made.files, chain=alone, intermediates=further), where=WHERE)
    assert (identity.leaf, list(identity.intermediates)) == (leaf, others)
    whole = load_identity(replaced(made.files, intermediates=further), where=WHERE)
    assert list(whole.intermediates) == others
    (said,) = problems_of(replaced(made.files, chain=alone, intermediates=tmp_path / "none.pem"))
    assert said.startswith(f"{WHERE}.intermediates: ")


def test_an_issuer_file_that_is_not_the_issuer(tmp_path):
    made = make_chain(tmp_path)
    stranger = made.write("stranger.pem", pem(self_signed(tmp_path).leaf))
    expected = f"{WHERE}.issuer: {stranger} does not hold the issuer of {made.files.chain}"
    assert problems_of(replaced(made.files, issuer=stranger)) == [expected]


@pytest.mark.parametrize("said", ["its issuer's key", "another's key", "nothing"])
def test_of_issuers_of_one_name_the_one_that_signed_is_found(tmp_path, said):
    """By its signature, whatever the certificate says of its issuer's key."""
    stranger = self_signed(tmp_path).leaf
    keys = {"its issuer's key": new_key("ec", "ca").public_key(), "another's key": stranger.public_key()}
    names = [x509.AuthorityKeyIdentifier.from_issuer_public_key(keys[said])] if said in keys else []
    made = make_chain(tmp_path, extra=names)
    namesake = make_issuer("Test CA", new_key("ec", "namesake"))
    assert find_issuer(made.leaf, (namesake, stranger, made.issuer)) == made.issuer
    assert find_issuer(made.leaf, (namesake, stranger)) is None


def test_a_self_signed_certificate_has_no_issuer_to_ask(tmp_path):
    assert load_identity(self_signed(tmp_path).files, where=WHERE).issuer is None


class TestMistakes:
    """One sentence each, below the key path, with the file's name."""

    def test_missing_files_are_told_together(self, tmp_path):
        chain, key = tmp_path / "no.pem", tmp_path / "no.key"
        assert problems_of(CertificateFiles(chain=chain, key=key)) == [
            f"{WHERE}.chain: cannot read {chain}: No such file or directory",
            f"{WHERE}.key: cannot read {key}: No such file or directory",
        ]

    def test_a_folder(self, tmp_path):
        made = make_chain(tmp_path)
        assert problems_of(replaced(made.files, key=tmp_path)) == [
            f"{WHERE}.key: cannot read {tmp_path}: Is a directory"
        ]

    @pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
    def test_no_permission(self, tmp_path):
        made = make_chain(tmp_path)
        made.files.key.chmod(0)
        assert problems_of(made.files) == [f"{WHERE}.key: cannot read {made.files.key}: Permission denied"]

    def test_exchanged_files(self, tmp_path):
        made = make_chain(tmp_path)
        chain, key = made.files.key, made.files.chain
        assert problems_of(CertificateFiles(chain=chain, key=key)) == [
            f"{WHERE}.chain: {chain} holds no certificate but a private key: are chain and key exchanged?",
            f"{WHERE}.key: {key} holds no private key but a certificate: are chain and key exchanged?",
        ]

    @pytest.mark.parametrize(
        ("content", "hint"),
        [
            (b"", "holds no certificate: it is empty"),
            (b"hello", "holds no certificate in PEM"),
            (b"-----BEGIN CERTIFICATE REQUEST-----\nMIIB", "holds no certificate but a certificate request"),
            (b"-----BEGIN NEW CERTIFICATE REQUEST-----\nMIIB", "holds no certificate but a certificate request"),
            (b"\x30\x82\x01\x01", "it looks like DER: convert it with openssl x509"),
            (b"-----BEGIN CERTIFICATE-----\nMIIB", "is cut off"),
            (b"-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n", "certificate number 1 in"),
            (b"x" * 1_048_577, "is longer than 1048576 bytes"),
        ],
    )
    def test_no_certificate(self, tmp_path, content, hint):
        made = make_chain(tmp_path)
        chain = made.write("wrong.pem", content)
        (problem,) = problems_of(replaced(made.files, chain=chain))
        assert problem.startswith(f"{WHERE}.chain: ")
        assert str(chain) in problem
        assert hint in problem

    def test_the_second_certificate_is_damaged(self, tmp_path):
        made = make_chain(tmp_path)
        chain = made.write("damaged.pem", pem(made.leaf) + pem(made.issuer).replace(b"M", b"N", 1))
        (problem,) = problems_of(replaced(made.files, chain=chain))
        assert "certificate number 2 in" in problem

    @pytest.mark.parametrize("form", [PrivateFormat.PKCS8, PrivateFormat.TraditionalOpenSSL])
    def test_an_encrypted_key(self, tmp_path, form):
        """It says how to decrypt it: a server that starts at night cannot ask."""
        made = make_chain(tmp_path)
        hidden = new_key("ec", "leaf").private_bytes(Encoding.PEM, form, BestAvailableEncryption(b"secret"))
        key = made.write("hidden.key", hidden)
        (problem,) = problems_of(replaced(made.files, key=key))
        assert f"{WHERE}.key: the private key in {key} is encrypted; decrypt it with: openssl pkey -in {key}" in problem

    def test_a_command_to_paste_has_its_paths_quoted(self, tmp_path):
        made = make_chain(tmp_path)
        hidden = new_key("ec", "leaf").private_bytes(
            Encoding.PEM, PrivateFormat.PKCS8, BestAvailableEncryption(b"secret")
        )
        key = made.write("my site's.key", hidden)
        (problem,) = problems_of(replaced(made.files, key=key))
        _, *words = shlex.split(problem.partition("with: ")[2])
        assert words == ["pkey", "-in", str(key), "-out", str(tmp_path / "my site's.plain.pem")]

    def test_pkcs12_is_told_with_what_makes_pem_of_it(self, tmp_path):
        """The command gives one file that is chain and key."""
        made = make_chain(tmp_path)
        both = (made.leaf, [made.issuer], NoEncryption())
        packed = made.write("my site.p12", serialize_key_and_certificates(b"x", new_key("ec", "leaf"), *both))
        told = problems_of(CertificateFiles(chain=packed, key=packed))
        what = f"{packed} holds no {{}} in PEM but is PKCS#12: convert it with "
        commands = [line.partition("convert it with ")[2] for line in told]
        assert told == [
            f"{WHERE}.{key}: {what.format(name)}{commands[0]}"
            for key, name in (("chain", "certificate"), ("key", "private key"))
        ]
        subprocess.run([*shlex.split(commands[0]), "-passin", "pass:"], check=True, capture_output=True)
        plain = tmp_path / "my site.plain.pem"
        assert load_identity(CertificateFiles(chain=plain, key=plain), where=WHERE).issuer == made.issuer

    def test_a_damaged_key_is_not_shown(self, tmp_path):
        made = make_chain(tmp_path)
        lines = made.files.key.read_bytes().splitlines()
        key = made.write("damaged.key", b"\n".join([lines[0], b"A" + lines[1][1:], *lines[2:]]))
        (problem,) = problems_of(replaced(made.files, key=key))
        assert "is damaged" in problem
        assert lines[1][1:9].decode() not in problem

    def test_a_kind_of_key_that_no_server_uses(self, tmp_path):
        made = make_chain(tmp_path)
        (problem,) = problems_of(replaced(made.files, key=made.write("dsa.key", key_pem(new_key("dsa")))))
        assert "unsupported kind: RSA, EC, Ed25519 and Ed448 are supported" in problem

    def test_a_key_of_another_certificate(self, tmp_path):
        made = make_chain(tmp_path)
        key = made.write("other.key", key_pem(new_key("ec", "other")))
        expected = f"the private key in {key} does not belong to the first certificate in {made.files.chain}"
        assert problems_of(replaced(made.files, key=key)) == [f"{WHERE}.key: {expected}"]

    def test_a_chain_that_begins_with_the_issuer(self, tmp_path):
        made = make_chain(tmp_path)
        made.files.chain.write_bytes(pem(made.issuer, made.leaf))
        (problem,) = problems_of(made.files)
        assert f"{WHERE}.chain: the private key in {made.files.key} belongs to certificate number 2 in" in problem
        assert problem.endswith("the server's own certificate must come first, move it to the top")

    def test_an_extension_that_cannot_be_read(self, tmp_path):
        broken = x509.UnrecognizedExtension(x509.AuthorityInformationAccess.oid, b"\x30\x03nonsense")
        made = make_chain(tmp_path, ocsp=(), extra=[broken])
        (problem,) = problems_of(made.files)
        assert problem.startswith(
            f"{WHERE}.chain: the first certificate in {made.files.chain} holds something that cannot"
        )


class TestWarnings:
    """What does not keep nginx and Apache from starting does not keep us."""

    def told(self, made, now=NOW):
        return [problem.what for problem in warnings(load_identity(made.files, where=WHERE), now)]

    def test_out_of_its_dates(self, tmp_path):
        made = make_chain(tmp_path)
        assert self.told(made, NOW + timedelta(days=91)) == [
            "the certificate expired on 2026-08-30 12:00 UTC: renew it"
        ]
        assert self.told(made, NOW - timedelta(days=2)) == ["the certificate is not valid before 2026-05-31 12:00 UTC"]

    def test_no_responder_is_normal(self, tmp_path):
        assert self.told(make_chain(tmp_path, ocsp=())) == []

    @pytest.mark.parametrize(("mode", "who"), [(0o604, "everybody on this machine may read"), (0o640, "")])
    def test_a_key_that_everybody_may_read(self, tmp_path, mode, who):
        """Not one of a group, as Debian's ssl-cert has them."""
        made = make_chain(tmp_path)
        key = made.files.key
        key.chmod(mode)
        assert self.told(made) == ([f"{who} the private key in {key}: chmod o= {key}"] if who else [])


@pytest.fixture(scope="module")
def chain(tmp_path_factory):
    return make_chain(tmp_path_factory.mktemp("fuzz"), must_staple=True, ca_issuers=["http://ca.test/"])


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None, max_examples=300)
@given(data=st.data())
def test_a_changed_byte_is_a_mistake_or_harmless(chain, data):
    """Whatever a certificate holds: it is read and described, or there is a ConfigError, and never anything else."""
    der = bytearray(chain.leaf.public_bytes(Encoding.DER))
    der[data.draw(st.integers(0, len(der) - 1))] = data.draw(st.integers(0, 255))
    body = b"-----BEGIN CERTIFICATE-----\n" + base64.encodebytes(der) + b"-----END CERTIFICATE-----\n"
    damaged = chain.write("damaged.pem", body + pem(chain.issuer))
    with suppress(ConfigError):
        identity = load_identity(replaced(chain.files, chain=damaged), where=WHERE)
        warnings(identity, NOW)
        one_line(identity.leaf.subject)
