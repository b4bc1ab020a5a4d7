"""The certificates of `drumbeat up --listen`: what they say, when they are made anew, and which names they are for."""

import ssl
import stat
from datetime import UTC, datetime, timedelta

import pytest
import tls_rig
from cryptography import x509

from compose import certificates, exposure
from compose.certificates import CertificateError
from shared.settings import SettingsError

NOW = datetime(2026, 11, 21, 12, tzinfo=UTC)
NAMES = ["monitor.example", "192.0.2.7", "::1"]


@pytest.fixture(scope="module")
def authority():
    return certificates.new_authority(NOW)


def test_the_authority_signs_servers_and_nothing_below(authority):
    """Ten years, may sign, and no authority below it is valid."""
    found = authority.certificate
    assert found.not_valid_after_utc == NOW + timedelta(days=3653)
    constraints = found.extensions.get_extension_for_class(x509.BasicConstraints)
    assert (constraints.critical, constraints.value.ca, constraints.value.path_length) == (True, True, 0)
    assert found.extensions.get_extension_for_class(x509.KeyUsage).value.key_cert_sign


def test_a_server_certificate_is_for_its_names_and_for_servers(authority):
    """Host names and addresses, for servers alone, and for no longer than clients take."""
    found = certificates.new_server(authority, NAMES, NOW).certificate
    assert certificates.names_in(found) == ("monitor.example", "192.0.2.7", "::1")
    assert found.not_valid_after_utc - found.not_valid_before_utc == timedelta(days=398)
    assert not found.extensions.get_extension_for_class(x509.BasicConstraints).value.ca
    assert [use.dotted_string for use in found.extensions.get_extension_for_class(x509.ExtendedKeyUsage).value] == [
        x509.ExtendedKeyUsageOID.SERVER_AUTH.dotted_string]
    found.verify_directly_issued_by(authority.certificate)


def test_a_server_certificate_does_not_outlive_its_authority(authority):
    """In the last year of the authority it ends with it."""
    late = authority.certificate.not_valid_after_utc - timedelta(days=100)
    assert certificates.new_server(authority, NAMES, late).certificate.not_valid_after_utc == (
        authority.certificate.not_valid_after_utc)


@pytest.mark.parametrize(("after_days", "names", "is_due"), [
    (0, NAMES, False), (366, NAMES, False), (368, NAMES, True), (500, NAMES, True), (-10, NAMES, True),
    (0, NAMES[:1], False), (0, [*NAMES, "new.example"], True)])
def test_it_is_made_anew_before_it_ends_and_for_new_names(authority, after_days, names, is_due):
    """With less than thirty days left, with a name that it lacks, or where the clock says that it is from the future."""
    found = certificates.new_server(authority, NAMES, NOW).certificate
    assert certificates.is_due(found, NOW + timedelta(days=after_days), names) == is_due


def test_what_is_good_is_kept_and_what_is_not_is_renewed(tmp_path):
    """A second start changes nothing; a year later the server's certificate is new and the authority is not."""
    first = certificates.prepare(tmp_path, NAMES, NOW)
    authority, server = first.ca_file.read_text(), first.cert_file.read_text()
    assert certificates.prepare(tmp_path, NAMES[:2], NOW) == first
    assert first.cert_file.read_text() == server
    later = certificates.prepare(tmp_path, NAMES, NOW + timedelta(days=390))
    assert later.fingerprint != first.fingerprint
    assert later.ca_file.read_text() == authority
    for name, mode in (("ca.key", 0o600), ("server.key", 0o600), ("ca.pem", 0o644), ("server.pem", 0o644)):
        assert stat.S_IMODE((tmp_path / "tls" / name).stat().st_mode) == mode


def test_a_pair_whose_writing_was_cut_short_is_made_anew(tmp_path):
    """A new key beside an old certificate, or a certificate of a lost authority, is no pair to start with."""
    first = certificates.prepare(tmp_path, NAMES, NOW)
    stranger = certificates.new_authority(NOW)
    certificates._write(tmp_path / "tls", "other", stranger)
    (tmp_path / "tls" / "other.key").replace(first.key_file)
    second = certificates.prepare(tmp_path, NAMES, NOW)
    assert second.fingerprint != first.fingerprint
    (tmp_path / "tls" / "ca.key").unlink()
    third = certificates.prepare(tmp_path, NAMES, NOW)
    assert third.fingerprint != second.fingerprint
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(third.cert_file, third.key_file)


def test_damaged_files_are_named(tmp_path):
    """What cannot be read is told with its path, and not overwritten."""
    certificates.prepare(tmp_path, NAMES, NOW)
    (tmp_path / "tls" / "ca.pem").write_text("junk")
    with pytest.raises(CertificateError, match=r"tls/ca\.pem holds no certificate in PEM"):
        certificates.prepare(tmp_path, NAMES, NOW)
    assert (tmp_path / "tls" / "ca.pem").read_text() == "junk"


def test_ones_own_certificate_is_taken_by_a_name_that_leads_here(tmp_path):
    """Programs of this machine connect by the first name of the certificate that leads to the listener."""
    files = tls_rig.Authority(tmp_path).server("monitor.example", "localhost")
    own = exposure.OwnCertificate(files.cert, files.key, None)
    found = exposure.prepare(tmp_path, "127.0.0.1", [], own, NOW)
    assert (found.local, found.public, found.files.ca_file) == ("localhost", "monitor.example", None)


@pytest.mark.parametrize(("names", "wanted", "told"), [
    (["monitor.invalid"], [], "names monitor.invalid, and none of these leads to 127.0.0.1 on this machine"),
    (["localhost"], ["other.example"], "--name other.example: "),
    (["*.example"], ["monitor.example"], r"/etc/hosts, such as: 127.0.0.1 monitor.example")])
def test_ones_own_certificate_must_lead_here(tmp_path, names, wanted, told):
    """Where no name of it does, the mend is a line to paste; a name that it lacks is refused."""
    files = tls_rig.Authority(tmp_path).server(*names)
    own = exposure.OwnCertificate(files.cert, files.key, None)
    with pytest.raises(CertificateError, match=told):
        exposure.prepare(tmp_path, "127.0.0.1", wanted, own, NOW)


def test_ones_own_files_that_do_not_fit_are_told(tmp_path):
    """A key of another certificate, one that has expired, and an encrypted key."""
    authority = tls_rig.Authority(tmp_path)
    good, other, old = authority.server("a.example"), authority.client("web-1"), authority.server("b.example", age_days=9)
    with pytest.raises(CertificateError, match="is not the key of"):
        certificates.read_own(good.cert, other.key, None)
    with pytest.raises(CertificateError, match="expired on"):
        certificates.read_own(old.cert, old.key, None)
    with pytest.raises(CertificateError, match=r"cannot read .*none\.pem"):
        certificates.read_own(good.cert, good.key, tmp_path / "none.pem")


@pytest.mark.parametrize(("listen", "is_told"), [("127.0.0.1", True), ("0.0.0.0", False)])
def test_our_own_certificate_is_for_every_way_here(tmp_path, listen, is_told):
    """The name by which programs here connect, and the one told to others, are in it; of loopback others hear nothing else."""
    found = exposure.prepare(tmp_path, listen, [], None, NOW)
    assert found.local == "127.0.0.1"
    assert (found.public == "127.0.0.1") == is_told
    assert {found.local, found.public} <= set(found.files.names)
    named = exposure.prepare(tmp_path, listen, ["monitor.example", "10.1.2.3"], None, NOW)
    assert named.public == "monitor.example"
    assert {"monitor.example", "10.1.2.3", named.local} <= set(named.files.names)


@pytest.mark.parametrize("name", ["a b", "*.example", "-x", "x" * 64, "", "a..b", "ünicode", "a,b", "x@y", "1.2.3.4:8"])
def test_names_that_no_certificate_carries_are_refused(name):
    """Neither a host name nor an address: told by its flag."""
    with pytest.raises(SettingsError, match=r"--name: .* is neither a host name nor an address"):
        exposure.check("127.0.0.1", [name])
