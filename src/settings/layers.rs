//! Lays connection string, variables and flags over the tree of the settings file, each value with its
//! source: flag > variable > file. Owns which variable and which flag sets which key; checks no value.

use super::{
    AuthMethod,
    inputs::{Flag, Inputs, VARIABLE_PREFIX},
    keys::SCALARS,
    overlay::{
        add_session_parameters, set_addresses, set_in_cluster, set_in_endpoint, set_in_listeners,
        set_in_silent_listeners,
    },
    policy::NEAREST,
    reader::Reader,
    source::{Source, did_you_mean},
    tree::{Node, Table, Value},
    url::{self, ConnectionString, RootCertificate},
};
use crate::secret::Secret;
use std::ffi::{OsStr, OsString};

/// What flags, variables and connection string said, from the weakest to the strongest.
pub(super) struct Layers {
    givens: Vec<Given>,
    /// What counts where nobody says anything.
    defaults: Vec<(Target, Node)>,
    /// Variables that are none of ours, unless the settings name them as a secret's source.
    pub(super) unknown_variables: Vec<String>,
}

/// One value and the key that it sets.
struct Given {
    target: Target,
    node: Node,
}

#[derive(Clone, Copy, PartialEq)]
enum Target {
    /// A key of the first block.
    Root(&'static str),
    /// The listeners' addresses.
    Addresses,
    /// A key of every listener.
    Listeners(&'static str),
    /// Session parameters of every listener, besides those in the file.
    SessionParameters,
    /// A key of the only cluster.
    Cluster(&'static str),
    /// A key of the only cluster's only endpoint.
    Endpoint(&'static str),
    /// The endpoint's region where a host is given, else every listener's regions; "nearest" is no region
    /// and always means the listeners.
    Region,
}

impl Layers {
    /// Collects what was given; broken connection strings and unreadable variables become faults.
    pub(super) fn gather(inputs: &Inputs, reader: &mut Reader<'_>) -> Self {
        let mut layers = Self { givens: Vec::new(), defaults: defaults_of(inputs), unknown_variables: Vec::new() };
        let mut of_variables = Vec::new();
        let mut url = None;
        let mut links = Vec::new();
        for (name, value) in &inputs.variables {
            let Some(name) = name.to_string_lossy().strip_prefix(VARIABLE_PREFIX).map(str::to_owned) else {
                continue;
            };
            let source = Source::Variable(format!("{VARIABLE_PREFIX}{name}"));
            if is_service_link(&name, value) {
                links.push(format!("{VARIABLE_PREFIX}{name}"));
            } else if name == "URL" {
                url = text(value, &source, reader);
            } else if name == "CONFIG" {
                // Read by `config_file`, before there was a tree.
            } else if let Some(target) = target_of_variable(&name) {
                let said = text(value, &source, reader);
                of_variables.extend(said.map(|said| given(target, &name, said, source)));
            } else {
                layers.unknown_variables.push(name);
            }
        }
        warn_of_links(&links, reader);
        // A string on the command line stands for all that the variable's one said.
        match &inputs.flags.url {
            Some(argument) => {
                layers.givens.extend(refuse_two_passwords(of_variables, reader));
                layers.givens.extend(from_url(argument, true, reader));
            }
            None => {
                layers.givens.extend(url.iter().flat_map(|url| from_url(url, false, reader)));
                layers.givens.extend(refuse_two_passwords(of_variables, reader));
            }
        }
        layers.givens.extend(refuse_two_passwords(of_flags(inputs), reader));
        layers
    }

    /// Whether anything says which cluster to reach.
    pub(super) fn name_a_host(&self) -> bool {
        self.givens.iter().any(|given| given.target == Target::Endpoint("host"))
    }

    /// Lays all of it over the tree, and sees to it that there is a listener. `whole` stands for the
    /// settings as a whole where nobody in particular asked for one.
    pub(super) fn lay(mut self, root: &mut Table, whole: &Source, reader: &mut Reader<'_>) {
        let with_host = self.name_a_host();
        // The regions may lie in one of two places, where the weaker ones must not be left over. The host
        // comes first, so that the cluster is known to be whose host it is.
        for target in [Target::Region, Target::Endpoint("host")] {
            let is_target = |given: &Given| given.target == target;
            if let Some(last) = self.givens.iter().rposition(is_target).map(|last| self.givens.remove(last)) {
                self.givens.retain(|given| !is_target(given));
                self.givens.insert(0, last);
            }
        }
        let addresses = self.givens.iter().rev().find(|given| given.target == Target::Addresses);
        set_addresses(root, addresses.map(|given| &given.node), whole, reader);
        for Given { target, node } in self.givens {
            match target {
                Target::Root(key) => root.set(key, node),
                Target::Addresses => (),
                Target::Listeners(key) => set_in_listeners(root, key, &node),
                Target::SessionParameters => add_session_parameters(root, &node),
                Target::Cluster(key) => set_in_cluster(root, key, node, reader),
                Target::Endpoint(key) => set_in_endpoint(root, key, node, reader),
                Target::Region if with_host && !is_nearest(&node) => set_in_endpoint(root, "region", node, reader),
                Target::Region => set_in_listeners(root, "regions", &node),
            }
        }
        for (target, node) in self.defaults {
            match target {
                Target::Root(key) if !root.has(key) => root.set(key, node),
                Target::Addresses => set_in_silent_listeners(root, "address", &node),
                // Nobody asks for others, whose place depends on what else was said.
                _ => (),
            }
        }
    }
}

fn is_nearest(node: &Node) -> bool {
    matches!(&node.value, Value::Plain(said) if said == NEAREST)
}

/// The settings file to read: `--config`, else the variable.
pub(super) fn config_file(inputs: &Inputs) -> Option<(OsString, Source)> {
    let name = format!("{VARIABLE_PREFIX}CONFIG");
    let variable = inputs.variables.iter().find(|(variable, _)| *variable == *name);
    let flag = inputs.flags.config.as_ref();
    flag.map(|path| (path.clone().into_os_string(), Source::Flag("config")))
        .or_else(|| variable.map(|(_, value)| (value.clone(), Source::Variable(name))))
}

/// The rule for a variable that nobody knows.
pub(super) fn unknown_variable(name: &str) -> String {
    let flags = Flag::ALL.iter().map(|flag| flag.variable());
    let keys = SCALARS.iter().map(|key| variable_of_key(key.name));
    let others = ["URL", "PASSWORD", "CONFIG"].map(|name| format!("{VARIABLE_PREFIX}{name}"));
    let known: Vec<String> = flags.chain(keys).chain(others).collect();
    let suggestion = did_you_mean(name, known.iter().filter_map(|known| known.strip_prefix(VARIABLE_PREFIX)));
    // The prefix is left out of the comparison, since it would make any two names alike.
    let suggestion = suggestion.replace("mean \"", &format!("mean \"{VARIABLE_PREFIX}"));
    format!("no setting has this name{suggestion}")
}

fn variable_of_key(key: &str) -> String {
    format!("{VARIABLE_PREFIX}{}", key.to_ascii_uppercase())
}

/// A Kubernetes Service called crdb-proxy gives every pod of its namespace such variables.
fn is_service_link(name: &str, value: &OsStr) -> bool {
    let name = format!("_{name}");
    let value = value.to_string_lossy();
    let has_scheme = value.starts_with("tcp://") || value.starts_with("udp://");
    name.ends_with("_SERVICE_HOST")
        || name.contains("_SERVICE_PORT")
        || name.contains("_PORT_")
        || (name.ends_with("PORT") && has_scheme)
}

fn warn_of_links(links: &[String], reader: &mut Reader<'_>) {
    if !links.is_empty() {
        let shown: Vec<&str> = links.iter().take(LINKS_SHOWN).map(String::as_str).collect();
        let more = if links.len() > LINKS_SHOWN { ", …" } else { "" };
        reader.warnings.push(format!(
            "ignored Kubernetes service links ({}{more}); set enableServiceLinks: false in the pod",
            shown.join(", ")
        ));
    }
}

fn text(value: &OsStr, source: &Source, reader: &mut Reader<'_>) -> Option<String> {
    let text = value.to_str().map(str::to_owned);
    if text.is_none() {
        reader.fault(source.clone(), String::new(), "is not UTF-8");
    }
    text
}

fn target_of_variable(name: &str) -> Option<Target> {
    if name == "PASSWORD" {
        return Some(Target::Cluster("password"));
    }
    let full = format!("{VARIABLE_PREFIX}{name}");
    let flag = Flag::ALL.into_iter().find(|flag| flag.variable() == full);
    let key = || SCALARS.iter().find(|key| variable_of_key(key.name) == full);
    flag.map(target_of_flag).or_else(|| key().map(|key| Target::Root(key.name)))
}

const fn target_of_flag(flag: Flag) -> Target {
    match flag {
        Flag::Listen => Target::Addresses,
        Flag::Admin => Target::Root("admin"),
        Flag::LogFormat => Target::Root("log_format"),
        Flag::LogLevel => Target::Root("log_level"),
        Flag::Host => Target::Endpoint("host"),
        Flag::Port => Target::Endpoint("port"),
        Flag::TlsServerName => Target::Endpoint("tls_server_name"),
        Flag::User => Target::Cluster("user"),
        Flag::PasswordFile | Flag::PasswordCommand => Target::Cluster("password"),
        Flag::CaFile => Target::Cluster("ca"),
        Flag::CertFile => Target::Cluster("cert"),
        Flag::KeyFile => Target::Cluster("key"),
        Flag::Database => Target::Listeners("database"),
        Flag::UnsafeAllowRemote => Target::Listeners("unsafe_allow_remote"),
        Flag::Region => Target::Region,
    }
}

/// `name` is the variable's without prefix; a flag's is made to look the same.
fn given(target: Target, name: &str, said: String, source: Source) -> Given {
    let node = |value| Node { value, source: source.clone() };
    let secret = |key: &str, value| {
        let mut table = Table::default();
        table.set(key, node(value));
        Value::Table(table)
    };
    let value = match name {
        "PASSWORD" => secret("env", Value::Plain(format!("{VARIABLE_PREFIX}{name}"))),
        "PASSWORD_FILE" => secret("file", Value::Plain(said)),
        "PASSWORD_COMMAND" => {
            let words = said.split_ascii_whitespace();
            let words = words.map(|word| node(Value::Plain(word.to_owned()))).collect();
            secret("command", Value::List(words))
        }
        "LISTEN" => {
            let addresses = said.split(',').map(|address| address.trim().to_owned());
            Value::List(addresses.map(|address| node(Value::Plain(address))).collect())
        }
        _ => Value::Plain(said),
    };
    Given { target, node: node(value) }
}

fn defaults_of(inputs: &Inputs) -> Vec<(Target, Node)> {
    let node = |said: &str| Node { value: Value::Plain(said.to_owned()), source: Source::Default };
    inputs.defaults.iter().map(|(flag, said)| (target_of_flag(*flag), node(said))).collect()
}

fn of_flags(inputs: &Inputs) -> Vec<Given> {
    let mut givens = Vec::new();
    let mut addresses = Vec::new();
    for (flag, said) in &inputs.flags.given {
        let source = Source::Flag(flag.name());
        if *flag == Flag::Listen {
            addresses.push(Node { value: Value::Plain(said.clone()), source });
        } else {
            let variable = flag.variable();
            let name = variable.strip_prefix(VARIABLE_PREFIX).unwrap_or_default();
            givens.push(given(target_of_flag(*flag), name, said.clone(), source));
        }
    }
    if !addresses.is_empty() {
        let source = Source::Flag(Flag::Listen.name());
        givens.push(Given { target: Target::Addresses, node: Node { value: Value::List(addresses), source } });
    }
    givens
}

/// Within one layer nothing says which of two passwords is meant.
fn refuse_two_passwords(givens: Vec<Given>, reader: &mut Reader<'_>) -> Vec<Given> {
    let passwords = givens.iter().filter(|given| given.target == Target::Cluster("password"));
    let sources: Vec<&Source> = passwords.map(|given| &given.node.source).collect();
    if let [first, second, ..] = sources.as_slice() {
        let rule = format!("{second} names a password as well; give one of them");
        reader.fault((*first).clone(), String::new(), rule);
    }
    givens
}

fn from_url(said: &str, on_command_line: bool, reader: &mut Reader<'_>) -> Vec<Given> {
    let parsed = match url::parse(said) {
        Ok(parsed) => parsed,
        Err(mut faults) => {
            if !on_command_line {
                let variable = Source::Variable(format!("{VARIABLE_PREFIX}URL"));
                faults.iter_mut().for_each(|fault| fault.source = variable.clone());
            }
            reader.faults.extend(faults);
            // A stand-in, so that what the string may well have said is not reported as missing too.
            let mut stand_in = ConnectionString::of_host("unread");
            stand_in.user = Some("unread".to_owned());
            stand_in.password = Some(Secret::new(Vec::new()));
            stand_in.root_certificate = Some(RootCertificate::System);
            return givens_of_url(stand_in);
        }
    };
    if on_command_line && parsed.password.is_some() {
        reader.warnings.push(PASSWORD_ON_COMMAND_LINE.to_owned());
    }
    if !parsed.without_effect.is_empty() {
        let names = parsed.without_effect.join(", ");
        reader.warnings.push(format!(
            "connection string: {names}: no effect here; crdb-proxy has settings of its own for how it connects"
        ));
    }
    givens_of_url(parsed)
}

fn givens_of_url(url: ConnectionString) -> Vec<Given> {
    let source = Source::ConnectionString;
    let node = |value| Node { value, source: source.clone() };
    let mut parameters = Table::default();
    for (key, value) in url.session_parameters {
        parameters.set(&key, node(Value::Plain(value)));
    }
    let parameters = Some(parameters).filter(|table| !table.entries.is_empty());
    let words = |methods: Vec<AuthMethod>| methods.iter().map(|method| method.word()).collect::<Vec<_>>().join(",");
    let require_auth = url.require_auth.map(words);
    let ca = url.root_certificate.map(|certificate| match certificate {
        RootCertificate::System => Value::Plain("system".to_owned()),
        RootCertificate::File(path) => Value::Plain(path),
        RootCertificate::Inline(pem) => Value::Pem(pem),
    });
    [
        (Target::Endpoint("host"), Some(Value::Plain(url.host))),
        (Target::Endpoint("port"), url.port.map(|port| Value::Plain(port.to_string()))),
        (Target::Cluster("user"), url.user.map(Value::Plain)),
        (Target::Cluster("password"), url.password.map(Value::Secret)),
        (Target::Cluster("ca"), ca),
        (Target::Cluster("cert"), url.cert.map(Value::Plain)),
        (Target::Cluster("key"), url.key.map(Value::Plain)),
        (Target::Cluster("require_auth"), require_auth.map(Value::Plain)),
        (Target::Listeners("database"), url.database.map(Value::Plain)),
        (Target::SessionParameters, parameters.map(Value::Table)),
    ]
    .into_iter()
    .filter_map(|(target, value)| Some(Given { target, node: node(value?) }))
    .collect()
}

const LINKS_SHOWN: usize = 5;
const PASSWORD_ON_COMMAND_LINE: &str = "connection string: it carries a password, which other users of this machine can read in the \
     process list; use --password-file or CRDB_PROXY_PASSWORD instead";
