//! Throwaway CAs and certificates for the tests of this room.

use crate::settings::{CaSource, CertificateFiles};
use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, DnType, ExtendedKeyUsagePurpose, IsCa, KeyPair,
    SignatureAlgorithm, date_time_ymd,
};
use rustls::{
    ClientConfig, ClientConnection, ProtocolVersion, RootCertStore, ServerConfig, ServerConnection,
    pki_types::{CertificateDer, PrivateKeyDer, ServerName},
    server::WebPkiClientVerifier,
};
use std::{
    path::{Path, PathBuf},
    sync::Arc,
};

pub(super) struct Ca(CertifiedIssuer<'static, KeyPair>);

impl Ca {
    pub(super) fn new(name: &str) -> Self {
        Self::until(name, 2100)
    }

    pub(super) fn until(name: &str, year: i32) -> Self {
        Self::make(name, year, &rcgen::PKCS_ECDSA_P256_SHA256)
    }

    pub(super) fn make(name: &str, year: i32, kind: &'static SignatureAlgorithm) -> Self {
        let mut params = CertificateParams::new(Vec::<String>::new()).unwrap();
        params.distinguished_name.push(DnType::CommonName, name);
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.not_before = date_time_ymd(2000, 1, 1);
        params.not_after = date_time_ymd(year, 1, 1);
        let key = KeyPair::generate_for(kind).unwrap();
        Self(CertifiedIssuer::self_signed(params, key).unwrap())
    }

    pub(super) fn pem(&self) -> String {
        self.0.pem()
    }

    pub(super) fn der(&self) -> CertificateDer<'static> {
        self.0.der().clone()
    }

    pub(super) fn source(&self) -> CaSource {
        CaSource::Inline(self.pem())
    }

    /// The CA's own certificate, as a self-signed server shows it.
    pub(super) fn as_server(&self) -> Issued {
        Issued { pem: self.pem(), der: self.der(), key: KeyPair::from_pem(&self.0.key().serialize_pem()).unwrap() }
    }

    pub(super) fn issue(&self, leaf: Leaf) -> Issued {
        let mut params = CertificateParams::new(leaf.names).unwrap();
        params.not_before = date_time_ymd(leaf.years.0, 1, 1);
        params.not_after = date_time_ymd(leaf.years.1, 1, 1);
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth];
        let key = KeyPair::generate().unwrap();
        let certificate = params.signed_by(&key, &self.0).unwrap();
        Issued { pem: certificate.pem(), der: certificate.der().clone(), key }
    }
}

pub(super) struct Leaf {
    names: Vec<String>,
    years: (i32, i32),
}

impl Leaf {
    pub(super) fn named(name: &str) -> Self {
        Self { names: vec![name.to_owned()], years: (2000, 2100) }
    }

    pub(super) fn names(mut self, names: Vec<String>) -> Self {
        self.names = names;
        self
    }

    pub(super) fn until(mut self, year: i32) -> Self {
        self.years.1 = year;
        self
    }

    pub(super) fn from(mut self, year: i32) -> Self {
        self.years.0 = year;
        self
    }
}

pub(super) struct Issued {
    pem: String,
    der: CertificateDer<'static>,
    key: KeyPair,
}

impl Issued {
    pub(super) fn pem(&self) -> String {
        self.pem.clone()
    }

    pub(super) fn key_pem(&self) -> String {
        self.key.serialize_pem()
    }

    pub(super) fn der(&self) -> CertificateDer<'static> {
        self.der.clone()
    }

    pub(super) fn files(&self, folder: &Path, name: &str) -> CertificateFiles {
        CertificateFiles {
            cert: write(folder, &format!("{name}.crt"), &self.pem()),
            key: write(folder, &format!("{name}.key"), &self.key_pem()),
        }
    }

    pub(super) fn server(&self) -> Arc<ServerConfig> {
        let builder = ServerConfig::builder_with_provider(super::provider());
        let builder = builder.with_safe_default_protocol_versions().unwrap();
        let config = builder.with_no_client_auth().with_single_cert(vec![self.der()], self.key_der());
        Arc::new(config.unwrap())
    }

    pub(super) fn server_that_asks_for_certificates(&self, ca: &Ca) -> Arc<ServerConfig> {
        let mut roots = RootCertStore::empty();
        roots.add(ca.der()).unwrap();
        let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), super::provider());
        let builder = ServerConfig::builder_with_provider(super::provider());
        let builder = builder.with_safe_default_protocol_versions().unwrap();
        let builder = builder.with_client_cert_verifier(verifier.build().unwrap());
        Arc::new(builder.with_single_cert(vec![self.der()], self.key_der()).unwrap())
    }

    fn key_der(&self) -> PrivateKeyDer<'static> {
        PrivateKeyDer::try_from(self.key.serialize_der()).unwrap()
    }
}

pub(super) fn write(folder: &Path, name: &str, text: &str) -> PathBuf {
    let path = folder.join(name);
    std::fs::write(&path, text).unwrap();
    // Whatever the umask says.
    std::fs::set_permissions(&path, std::os::unix::fs::PermissionsExt::from_mode(0o600)).unwrap();
    path
}

/// Runs a whole handshake in memory; the error of whichever side refuses first.
pub(super) fn handshake(
    client: &Arc<ClientConfig>,
    server: &Arc<ServerConfig>,
    name: &str,
    alpn: &[&[u8]],
) -> Result<ProtocolVersion, rustls::Error> {
    let alpn = alpn.iter().map(|name| name.to_vec()).collect();
    let name = ServerName::try_from(name.to_owned()).unwrap();
    let mut client = ClientConnection::new_with_alpn(Arc::clone(client), name, alpn)?;
    let mut server = ServerConnection::new(Arc::clone(server))?;
    while client.is_handshaking() || server.is_handshaking() || client.wants_write() {
        let mut bytes = Vec::new();
        client.write_tls(&mut bytes).unwrap();
        server.read_tls(&mut bytes.as_slice()).unwrap();
        server.process_new_packets()?;
        bytes.clear();
        while server.wants_write() {
            server.write_tls(&mut bytes).unwrap();
        }
        let mut left = bytes.as_slice();
        while !left.is_empty() {
            client.read_tls(&mut left).unwrap();
            client.process_new_packets()?;
        }
    }
    Ok(client.protocol_version().unwrap())
}

/// Made with `openssl req -x509 -md5`.
pub(super) const MD5_WITH_RSA: &str = "\
-----BEGIN CERTIFICATE-----
MIIB+DCCAWGgAwIBAgIUaBWDOwNL28h+AvgyHoOZh1DLimkwDQYJKoZIhvcNAQEE
BQAwDjEMMAoGA1UEAwwDbWQ1MB4XDTI2MTEyMzA2MzYxOVoXDTM2MTEyMDA2MzYx
OVowDjEMMAoGA1UEAwwDbWQ1MIGfMA0GCSqGSIb3DQEBAQUAA4GNADCBiQKBgQDi
1H/7+6qr1x7VZvsJnfT2DN19Sjth67hFOlZPfcKYppoQYjhGnYFrY5qSfNLJkTwK
HFS4Fe14YUNWl1D3tk4tHD+/KT2tMofCrA6WVkjM/od+Xxb0asQZzimHLJhczSjV
bjRYP1FSGr7bRhTWmdCpZ0oBQD5LFv7KjOHPKksiJQIDAQABo1MwUTAdBgNVHQ4E
FgQUcXuGxe9CbntSipQKHR8ZSOtT7lgwHwYDVR0jBBgwFoAUcXuGxe9CbntSipQK
HR8ZSOtT7lgwDwYDVR0TAQH/BAUwAwEB/zANBgkqhkiG9w0BAQQFAAOBgQCk0I9N
x2SuxGD5NwgvyU4dz0HQjrNYxFkq4TRxbRdNmNcbVMkM/TK+CkuXEQXVW+x6aUQy
DOuaxZnLCb9IcNkfNUPD8hSAOCLjz6FY0kpW9c6pcDOS7srmYFXri+0PkwehceFj
eidEXvt7IuUezKawweN6lEIBbsD8qjAHgyJRXg==
-----END CERTIFICATE-----
";

/// Made with `openssl req -x509 -sha384 -sigopt rsa_padding_mode:pss`.
pub(super) const PSS_WITH_SHA384: &str = "\
-----BEGIN CERTIFICATE-----
MIICYDCCAZWgAwIBAgIUZ+u2gfiaRTDTEECgXqaQAQa8aRkwQQYJKoZIhvcNAQEK
MDSgDzANBglghkgBZQMEAgIFAKEcMBoGCSqGSIb3DQEBCDANBglghkgBZQMEAgIF
AKIDAgEgMA4xDDAKBgNVBAMMA3BzczAeFw0yNjExMjMwNjM2MTlaFw0zNjExMjAw
NjM2MTlaMA4xDDAKBgNVBAMMA3BzczCBnzANBgkqhkiG9w0BAQEFAAOBjQAwgYkC
gYEAz7ZrhBLuDLpK4SvM1SmurViOaPkCrRrL5uJ5btfbBbdRa0ObHnA9fczA7kc2
DwU8mQW+sFxXR9J7ejj+V8jbCfxFq5IjFCyRDsomDsgQgsUDlRRNbaBecQzoCiTh
TcPRSBRdIEtLI0gFwF74ndsNyrF7dqcMhzBIVHOvTbtD/HMCAwEAAaNTMFEwHQYD
VR0OBBYEFCn43AjULl7ElsVB4gSTNZ/ev/evMB8GA1UdIwQYMBaAFCn43AjULl7E
lsVB4gSTNZ/ev/evMA8GA1UdEwEB/wQFMAMBAf8wQQYJKoZIhvcNAQEKMDSgDzAN
BglghkgBZQMEAgIFAKEcMBoGCSqGSIb3DQEBCDANBglghkgBZQMEAgIFAKIDAgEg
A4GBAGQ6E6luF4f04gLi1hsxubgUoWdH2NZ/C0Z7JQRge703VPJoWDRt43EyR7dv
7KlMGvr0ia8XOwwNKurvpt6J8CNSJH/Gn/06HkUGR2946G44NaReN4KRAYxT86E6
2knqGiieq9tkYBUixhWG/SRtHalTz50JgRtJTP2ts0ThfdIl
-----END CERTIFICATE-----
";

/// Made with `openssl req -x509 -sha1 -sigopt rsa_padding_mode:pss`: no hash is written in it.
pub(super) const PSS_WITH_DEFAULTS: &str = "\
-----BEGIN CERTIFICATE-----
MIICAjCCAWagAwIBAgIUK/WaN9NEpfvTQ3DIviKSVakQefUwEgYJKoZIhvcNAQEK
MAWiAwIBajAOMQwwCgYDVQQDDANwc3MwHhcNMjYxMTIzMDYzNjE5WhcNMzYxMTIw
MDYzNjE5WjAOMQwwCgYDVQQDDANwc3MwgZ8wDQYJKoZIhvcNAQEBBQADgY0AMIGJ
AoGBANVfydwV4SkGBQrN0bUWM+lKI/NbpMvMT2pMMo/Eynbtei6GTWR4y1aLE+eO
W5b4oxyJZvizlDbH9Q68z3L4H49fes/FYtjSce5xQmV4/e10RFtsjh/HHR2tW8O5
BjOaNh4iPkxcrlkfK7T6l9ovixnFrGm3wLgTSoYKYFveYX+nAgMBAAGjUzBRMB0G
A1UdDgQWBBRLMFqvGaZA7hzbpCcuVcodizCBCzAfBgNVHSMEGDAWgBRLMFqvGaZA
7hzbpCcuVcodizCBCzAPBgNVHRMBAf8EBTADAQH/MBIGCSqGSIb3DQEBCjAFogMC
AWoDgYEADMaDCYkFlr1SVPL+6Ebq2watVoRotyXDmTu8Pin6NUttU/GrIIva2JhN
Ogev1mRCqb86lBjKxpuT8vLJ8rNUn5lPN5neYSUFymAbg4ThV9fclAeE2sj+9QYN
rcCB6BT1hDlITrFh7GNwooHbDL+j5sY7NbOg49zRLkE9SrimUxQ=
-----END CERTIFICATE-----
";
