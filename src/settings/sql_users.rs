//! Reads whom a cluster's sessions log in as: one user, whose credentials stand beside it, or a table of users that
//! hold their own.

use super::{
    AuthKind, AuthMethod, CertificateFiles, SecretSource,
    auth_methods::require_auth,
    clusters::{AUTHS, read_certificate},
    reader::{Reader, Section},
    secrets::secret_source,
    shown::shown_name,
    tree::{Entry, Value},
    values::{choice, kind, nonempty},
};

/// A SQL user of a cluster, and what it logs in with.
#[derive(Clone, Debug, PartialEq)]
pub struct SqlUser {
    /// As the settings spell it, which is how it is sent.
    pub name: String,
    /// What the secret is to the server.
    pub auth: AuthKind,
    /// Absent only when a client certificate or the clients' own passwords stand instead.
    pub password: Option<SecretSource>,
    /// PEM files of certificate chain and key.
    pub client_certificate: Option<CertificateFiles>,
    /// Each client is asked for its password, which stands instead.
    pub asks_client: bool,
    /// The only ways to log in that the server may ask for; absent: none weaker than before.
    pub require_auth: Option<Vec<AuthMethod>>,
    /// It stands in a table of its own, `[cluster.NAME.user.SQLUSER]`.
    pub has_own_table: bool,
}

impl SqlUser {
    /// Whether a name means this user. SQL folds the case of names, so two users never differ in that alone.
    pub fn is_called(&self, name: &str) -> bool {
        self.name == name || self.name.to_lowercase() == name.to_lowercase()
    }
}

/// All users of a cluster in the order in which they stand; at least one where there is no fault.
pub(super) fn read_users(reader: &mut Reader<'_>, section: &mut Section) -> Vec<SqlUser> {
    if matches!(section.peek("user"), Some(Value::Table(_))) {
        return read_table(reader, section);
    }
    let name = reader.require(section, "user", USER_MISSING, nonempty);
    let user = read_credential(reader, section, String::new(), false);
    name.map(|name| SqlUser { name, ..user }).into_iter().collect()
}

fn read_table(reader: &mut Reader<'_>, section: &mut Section) -> Vec<SqlUser> {
    for key in CREDENTIAL_KEYS {
        if section.has(key) {
            reader.fault(section.source_of(key), section.key(key), BESIDE_A_TABLE);
        }
        section.take(key);
    }
    let source = section.source_of("user");
    let (label, path) = (section.label.clone(), format!("{}.user", section.path));
    let Some(Entry { node, .. }) = section.take("user") else { return Vec::new() };
    let Value::Table(table) = node.value else { return Vec::new() };
    if table.entries.is_empty() {
        reader.fault(source, section.key("user"), format!("missing; {USER_MISSING}"));
    }
    let mut users: Vec<SqlUser> = Vec::new();
    for Entry { key, source, node } in table.entries {
        let label = format!("{label}: user \"{}\"", shown_name(&key));
        let Value::Table(table) = node.value else {
            let rule = format!("must be a table, not {}: [cluster.NAME.user.SQLUSER]", kind(&node.value));
            reader.fault(source, label, rule);
            continue;
        };
        if key.is_empty() || key.contains('\0') {
            reader.fault(source, label, "the name must not be empty, nor contain a NUL");
            continue;
        }
        if users.iter().any(|other| other.is_called(&key)) {
            reader.fault(source.clone(), label.clone(), "another user has the same name; SQL ignores case");
        }
        let mut own = Section::new(label, format!("{path}.{key}"), source, table);
        users.push(read_credential(reader, &mut own, key, true));
        reader.finish(own);
    }
    users
}

/// What one user logs in with.
fn read_credential(reader: &mut Reader<'_>, section: &mut Section, name: String, has_own_table: bool) -> SqlUser {
    let auth = reader.read(section, "auth", |node, _| choice(node, &AUTHS)).unwrap_or(AuthKind::Password);
    let (has_password, has_cert) = (section.has("password"), section.has("cert"));
    let asks_client = reader.read(section, "credential", |node, _| choice(node, &CREDENTIALS)).unwrap_or(false);
    if asks_client {
        if has_password {
            reader.fault_in(section, "credential", "\"client\" and a password exclude each other");
        }
    } else if !has_password && auth == AuthKind::Jwt {
        reader.fault_in(section, "password", "missing; auth = \"jwt\" sends the secret as a token");
    } else if !has_password && !has_cert && !section.has("key") {
        reader.fault_in(section, "password", CREDENTIAL_MISSING);
    }
    let password = reader.read_hidden(section, "password", secret_source);
    let client_certificate = read_certificate(reader, section, "cert", "key");
    let require_auth = reader.read(section, "require_auth", |node, _| require_auth(node, auth));
    SqlUser { name, auth, password, client_certificate, asks_client, require_auth, has_own_table }
}

/// What stands beside `user` where that is a name, and in each table where it is a table.
pub(super) const CREDENTIAL_KEYS: [&str; 6] = ["auth", "password", "credential", "cert", "key", "require_auth"];
const CREDENTIALS: [(&str, bool); 1] = [("client", true)];
const USER_MISSING: &str = "the SQL user that every session logs in as; set user in the settings \
                            file, --user, or postgresql://USER@…";
const CREDENTIAL_MISSING: &str = "missing; set password = { file = \"…\" } in the settings file, \
    --password-file, --password-command or CRDB_PROXY_PASSWORD, or a client certificate with cert and key";
const BESIDE_A_TABLE: &str = "cannot stand beside a table of users; each has its own, in [cluster.NAME.user.SQLUSER]";
