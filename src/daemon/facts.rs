//! What a person who starts the daemon at a terminal wants to see first: what it will do, for whom, trusting
//! what, and a line to paste. Says where a secret comes from, never what it is. Services get none of it.

use super::Daemon;
use crate::{
    admin::ListenerView,
    credentials::Credentials,
    diagnostics::{self, printable, rfc3339},
    settings::{CaSource, ListenAddress, LogFormat},
    upstream::Cluster,
};
use std::net::SocketAddr;

impl Daemon {
    /// Shows the facts where a person reads standard error. Waits for nobody.
    #[must_use]
    pub fn introduced(self) -> Self {
        let is_for_people = self.admin.view().settings.log_format == LogFormat::Text;
        if is_for_people && diagnostics::has_reader() {
            let lines = self.facts().iter().map(|(title, fact)| line(title, fact)).collect::<String>();
            diagnostics::show(format!("\n{lines}\n"));
        }
        self
    }

    fn facts(&self) -> Vec<(&'static str, String)> {
        let view = self.admin.view();
        let mut facts = vec![("crdb-proxy", env!("CARGO_PKG_VERSION").to_owned())];
        for cluster in &view.clusters {
            facts.extend(of_cluster(cluster));
            let own = view.listeners.iter().filter(|listener| listener.parts.listener.cluster == *cluster.name());
            facts.extend(own.flat_map(|listener| of_listener(listener, cluster)));
        }
        let admin: Vec<_> = self.admin_sockets.iter().map(|socket| socket.place().address).collect();
        facts.push(("admin", if admin.is_empty() { "off".to_owned() } else { short(&admin) }));
        facts
    }
}

fn of_cluster(cluster: &Cluster) -> Vec<(&'static str, String)> {
    let setup = cluster.setup();
    let settings = &setup.settings;
    let ca = match &settings.ca {
        CaSource::System => "the roots of this machine (system)".to_owned(),
        CaSource::File(path) => path.display().to_string(),
        CaSource::Inline(_) => "the connection string".to_owned(),
    };
    let names: Vec<_> = settings.users().map(|user| format!("\"{}\"", user.name)).collect();
    let mut facts = vec![
        ("cluster", format!("\"{}\" as user {}", settings.name, names.join(", "))),
        ("verified", format!("in full (verify-full): chain, validity and name, against {ca}")),
    ];
    if let Some(known) = &setup.account.tls.ca {
        let end = rfc3339(known.not_after);
        facts.push(("CA", format!("valid until {}", end.split('T').next().unwrap_or_default())));
        facts.extend(known.sha256.iter().map(|sum| ("CA sha256", sum.clone())));
    }
    for account in setup.accounts() {
        let secret = account.credentials().map(Credentials::describe);
        facts.extend(secret.map(|source| ("secret", format!("from {source}"))));
        let certificate = account.user.client_certificate.as_ref();
        facts.extend(certificate.map(|files| ("certificate", files.cert.display().to_string())));
    }
    facts
}

fn of_listener(ListenerView { parts, addresses }: &ListenerView, cluster: &Cluster) -> Vec<(&'static str, String)> {
    let listener = &parts.listener;
    let mut facts = vec![("listening", format!("{} (\"{}\")", short(addresses), listener.name))];
    if let Some((name, why)) = cluster.explain(&parts.setup, &parts.choice) {
        let way = cluster.ways().iter().find(|way| *way.name() == name).cloned();
        let place = way.map(|way| format!(" at {}:{}", way.endpoint.host, way.endpoint.port)).unwrap_or_default();
        facts.push(("endpoint", format!("\"{name}\"{place}: {why}")));
    }
    let port = addresses.iter().find_map(|address| address.parse::<SocketAddr>().ok()).map(|address| address.port());
    let parameters = listener.connection_parameters(port);
    facts.extend(parameters.map(|parameters| ("connect", format!("psql '{}'", parameters.url()))));
    facts
}

/// Addresses, or the name of both loopback ones.
fn short(addresses: &[String]) -> String {
    match ListenAddress::of_sockets(addresses) {
        Some(ListenAddress::Localhost(port)) => format!("localhost:{port}"),
        _ => addresses.join(", "),
    }
}

fn line(title: &str, fact: &str) -> String {
    format!("  {title:<12}{}\n", printable(fact))
}
