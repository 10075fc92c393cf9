//! The settings file that `setup` writes: complete, with a comment for each key. Every text of the Cloud stands in
//! quotes or is printable, so that none can become a line of its own.

use super::{
    choice::Choice,
    cluster::Found,
    ways::Way,
    wishes::{PasswordAt, Regions, word},
};
use crate::{commands::CommandError, diagnostics::printable, settings::EndpointKind};
use std::path::Path;

/// The whole text, for a file in this folder beside this CA file.
pub(super) fn text(found: &Found, choice: &Choice, folder: &Path, ca: &Path) -> Result<String, CommandError> {
    let name = table_name(found.name.as_str());
    let mut text = format!(
        "# Settings of crdb-proxy for a cluster of CockroachDB Cloud, made by crdb-proxy setup. Applications connect to\n\
         # localhost:26257, without a password and without TLS.\n\n\
         [cluster.{name}]\n\
         # The cluster's certificate is verified against this CA, and nothing else. SHA-256:\n"
    );
    for certificate in &found.ca.authorities.certificates {
        text += &format!("#   {}\n", certificate.sha256);
    }
    text += &format!("ca = {}\n", quoted(&path_text(ca, folder)?));
    text += "# Every session logs in as this SQL user, whatever name an application sends.\n";
    text += &format!("user = {}\n", quoted(&choice.user));
    text += "# Where the password is, never what it is: a file, { env = \"NAME\" }, { credential = \"NAME\" } of systemd, or\n\
             # { command = [\"PROGRAM\", \"ARGUMENT\"] }. A changed one is used by the next login.\n";
    text += &format!("password = {}\n", password(&choice.password.at, folder)?);
    text += "# The cluster's ID in the Cloud API, for crdb-proxy check.\n";
    text += &format!("cluster_id = {}\n", quoted(&found.id));
    text += "# Where a key of that API is, in a source as the password's. Commands also look at COCKROACH_API_KEY.\n\
             # api_key = { env = \"COCKROACH_API_KEY\" }\n\
             # Whether regions that the cluster gains become endpoints; needs api_key.\n\
             # discover = false\n";

    text += "\n# The ways into the cluster, in order of preference. Hosts are the Cloud's own, and the certificate carries them.\n";
    for way in &choice.ways {
        text += &endpoint(&name, way);
    }
    if !choice.spare.is_empty() {
        text += "\n# There are these too. A listener uses them once its regions and path have them.\n";
        for way in &choice.spare {
            text += &commented(endpoint(&name, way).trim_start());
        }
    }
    text += "\n[[listener]]\nname = \"main\"\n\
             # Where applications connect: localhost:PORT, IP:PORT or unix:FOLDER.\n\
             address = \"localhost:26257\"\n\
             # For applications that name no database.\n";
    text += &format!("database = {}\n", quoted(&choice.database));
    text += "# \"nearest\": the region that answers soonest first. A list: only these, in this order.\n";
    text += &format!("regions = {}\n", regions(&choice.regions));
    text += "# Only these ways, in this order: \"public\" (the allowlist must have this machine), \"internal\" (PrivateLink, VPC\n\
             # peering), \"psc\" (Private Service Connect).\n";
    text += &format!("path = {}\n", list(choice.kinds.iter().map(|kind| word(*kind))));
    text += REST;
    Ok(text)
}

fn endpoint(cluster: &str, way: &Way) -> String {
    let mut text = format!("\n[[cluster.{cluster}.endpoint]]\n");
    text += &format!("region = {}\nkind = \"{}\"\n", quoted(&way.region), word(way.kind));
    if way.kind == EndpointKind::Psc {
        let name = way.endpoint_name.as_deref().unwrap_or("ENDPOINT_NAME");
        text += "# What the endpoint is called in your network; it goes in front of the host.\n";
        text += &format!("endpoint_name = {}\n", quoted(name));
    }
    text + &format!("host = {}\n", quoted(&way.host))
}

/// Each line as a comment; what was one already stays one once the first `# ` is taken away.
fn commented(text: &str) -> String {
    let mut lines = String::from("#\n");
    for line in text.lines() {
        lines += &format!("# {}\n", printable(line));
    }
    lines
}

fn password(at: &PasswordAt, folder: &Path) -> Result<String, CommandError> {
    Ok(match at {
        PasswordAt::File(file) => format!("{{ file = {} }}", quoted(&path_text(file, folder)?)),
        PasswordAt::Env(name) => format!("{{ env = {} }}", quoted(name)),
        PasswordAt::Command(words) => format!("{{ command = {} }}", list(words.iter().map(String::as_str))),
    })
}

fn regions(regions: &Regions) -> String {
    match regions {
        Regions::Nearest => "\"nearest\"".to_owned(),
        Regions::These(names) => list(names.iter().map(String::as_str)),
    }
}

fn list<'t>(items: impl Iterator<Item = &'t str>) -> String {
    format!("[{}]", items.map(quoted).collect::<Vec<_>>().join(", "))
}

/// As it stands in the file: from its folder on where it is there.
fn path_text(path: &Path, folder: &Path) -> Result<String, CommandError> {
    let shown = path.strip_prefix(folder).unwrap_or(path);
    let text = shown.to_str().map(str::to_owned);
    text.ok_or_else(|| CommandError::Said(2, format!("{} is not UTF-8; name another place", path.display())))
}

/// A basic string in one line.
fn quoted(text: &str) -> String {
    let mut quoted = String::from("\"");
    for letter in text.chars() {
        match letter {
            '"' | '\\' => quoted.extend(['\\', letter]),
            letter if printable(&letter.to_string()).len() > letter.len_utf8() => {
                quoted += &format!("\\U{:08X}", u32::from(letter));
            }
            letter => quoted.push(letter),
        }
    }
    quoted + "\""
}

/// A bare key cannot have a dot.
fn table_name(name: &str) -> String {
    if name.contains('.') { quoted(name) } else { name.to_owned() }
}

const REST: &str = "\
# What else there is, with its default; docs/settings.md has all of it.
# prefer = \"path\"               # \"region\": every path of a region before the next region
# overflow = false              # true: a session may go to another region where this one is full
# reuse = false                 # true: an upstream is reset and used again for the next session
# session_parameters = {}       # sent for applications that do not set them: { application_name = \"shop\" }
";
