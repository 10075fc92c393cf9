//! What loading takes, refuses, and says about it.

use super::*;
use crate::settings::{AdminAddress, CaSource, EndpointKind, Flag, ListenAddress, Policy, Regions, show, show_json};
use std::fs;

/// A valid file with one cluster; the folder shows as `/f`, the working folder as `/w`.
pub(super) const ONE_CLUSTER: &str = "\
[cluster.prod]\nca = \"ca.crt\"\nuser = \"app\"\npassword = { file = \"p\" }\n\
[[cluster.prod.endpoint]]\nhost = \"h\"\n";

/// Inputs to be set up in a line, and the folder that their file lives in.
#[derive(Clone, Default)]
pub(super) struct World {
    inputs: Inputs,
    file: Option<String>,
}

impl World {
    pub(super) fn of_file(text: &str) -> Self {
        Self { file: Some(text.to_owned()), ..Self::default() }
    }

    pub(super) fn variable(mut self, name: &str, value: &str) -> Self {
        self.inputs.variables.push((name.into(), value.into()));
        self
    }

    pub(super) fn flag(mut self, flag: Flag, said: &str) -> Self {
        self.inputs.flags.given.push((flag, said.to_owned()));
        self
    }

    pub(super) fn url(mut self, url: &str) -> Self {
        self.inputs.flags.url = Some(url.to_owned());
        self
    }

    /// Loads from a folder of its own, and then calls that folder `/f` and the working folder `/w`.
    fn load(mut self) -> Result<Loaded, Faults> {
        let root = tempfile::tempdir().unwrap();
        let (folder, working) = (root.path().join("f"), root.path().join("w"));
        fs::create_dir(&folder).unwrap();
        fs::create_dir(&working).unwrap();
        self.inputs.working_folder = working;
        self.inputs.cores = 3;
        self.inputs.home.get_or_insert_with(|| "/h".into());
        if let Some(text) = &self.file {
            let file = folder.join("crdb-proxy.toml");
            fs::write(&file, text).unwrap();
            // Whatever the umask says.
            fs::set_permissions(&file, std::os::unix::fs::PermissionsExt::from_mode(0o600)).unwrap();
            self.inputs.flags.config = Some("../f/crdb-proxy.toml".into());
        }
        load(&self.inputs)
    }

    pub(super) fn loaded(self) -> Loaded {
        self.load().unwrap_or_else(|faults| panic!("{faults}"))
    }

    pub(super) fn faults(self) -> Vec<String> {
        match self.load() {
            Ok(_) => panic!("no fault"),
            Err(faults) => faults.iter().map(ToString::to_string).collect(),
        }
    }
}

#[test]
fn a_connection_string_alone_makes_one_cluster_and_one_listener() {
    let url = "postgresql://app@prod.gcp-us-east1.cockroachlabs.cloud:26257/bank?sslmode=verify-full\
               &sslrootcert=$HOME/L/ca.crt&application_name=shop&connect_timeout=3";
    let loaded = World::default().url(url).flag(Flag::PasswordFile, "pw").loaded();

    let Settings { clusters, listeners, .. } = &loaded.settings;
    let (cluster, listener) = (&clusters[0], &listeners[0]);
    assert_eq!((clusters.len(), listeners.len()), (1, 1));
    assert_eq!((cluster.name.as_str(), cluster.user.name.as_str()), ("default", "app"));
    assert_eq!(cluster.ca, CaSource::File("/h/L/ca.crt".into()));
    assert!(matches!(&cluster.user.password, Some(SecretSource::File(path)) if path.ends_with("w/pw")));
    let endpoint = &cluster.endpoints[0];
    assert_eq!(endpoint.name.as_str(), "default");
    assert_eq!(endpoint.tls_server_name.to_str(), "prod.gcp-us-east1.cockroachlabs.cloud");
    assert_eq!((endpoint.kind, endpoint.port), (EndpointKind::Public, 26257));
    assert_eq!(listener.name.as_str(), "listener-1");
    assert_eq!(listener.address, ListenAddress::Localhost(26257));
    assert_eq!(listener.database, "bank");
    assert_eq!(listener.session_parameters, [("application_name".to_owned(), "shop".to_owned())]);
    assert_eq!(loaded.settings.admin, AdminAddress::Localhost(9257));
    assert_eq!(loaded.settings.threads.get(), 2, "of three cores");
    assert_eq!(loaded.warnings.len(), 1, "{:?}", loaded.warnings);
    assert!(loaded.warnings[0].contains("connect_timeout"), "{:?}", loaded.warnings);
}

#[test]
fn the_connection_parameters_do_the_same_as_a_connection_string() {
    let loaded = World::default()
        .flag(Flag::Host, "db.example.com")
        .flag(Flag::Port, "26258")
        .flag(Flag::User, "app")
        .flag(Flag::Database, "bank")
        .flag(Flag::CaFile, "system")
        .flag(Flag::Region, "gcp-us-east1")
        .flag(Flag::Listen, "localhost:1")
        .flag(Flag::Listen, "127.0.0.1:2")
        .variable("CRDB_PROXY_PASSWORD", "hunter2")
        .loaded();

    let cluster = &loaded.settings.clusters[0];
    assert_eq!(cluster.ca, CaSource::System);
    assert_eq!(cluster.user.password, Some(SecretSource::Env("CRDB_PROXY_PASSWORD".into())));
    let endpoint = &cluster.endpoints[0];
    assert_eq!((endpoint.host.as_str(), endpoint.port), ("db.example.com", 26258));
    assert_eq!(endpoint.name.as_str(), "gcp-us-east1-public");
    let listeners = &loaded.settings.listeners;
    assert_eq!(listeners.len(), 2);
    assert_eq!(listeners[1].name.as_str(), "listener-2");
    assert!(listeners.iter().all(|listener| listener.database == "bank" && listener.policy == Policy::default()));
    assert!(!format!("{loaded:?}").contains("hunter2"));
}

#[test]
fn every_broken_rule_is_told_at_once_with_source_key_and_rule() {
    let file = "\
connect_limit = 10
drain_limit = \"0s\"
startup_bytes_max = 2000000
sesions_max = 1

[cluster.prod]
ca = \"ca.crt\"
user = \"\"
password = \"hunter2\"

[[cluster.prod.endpoint]]
host = \"h:26257\"
port = 70000

[[listener]]
name = \"main\"
database_ = \"hunter2\"
tls = \"on\"
";
    let faults = World::of_file(file).variable("CRDB_PROXY_LOG_LEVL", "debug").flag(Flag::LogFormat, "xml").faults();

    let at = |line| format!("../f/crdb-proxy.toml:{line}: ");
    let expected = [
        "flag --log-format = \"xml\": must be \"text\" or \"json\"".to_owned(),
        "variable CRDB_PROXY_LOG_LEVL: no setting has this name; did you mean \"CRDB_PROXY_LOG_LEVEL\"?".to_owned(),
        at(1) + "connect_limit = 10: needs a unit: \"500ms\", \"10s\", \"5min\" or \"2h\"",
        at(2) + "drain_limit = \"0s\": must be from 1ms to 8760h",
        at(3) + "startup_bytes_max = 2000000: must be a whole number from 64 to 1048576",
        at(4) + "sesions_max: unknown key; did you mean \"sessions_max\"?",
        at(8) + "cluster \"prod\": user = \"\": must not be empty",
    ];
    assert_eq!(faults[..7], expected, "{faults:#?}");
    assert!(faults[7].starts_with(&(at(9) + "cluster \"prod\": password: a secret must not stand")));
    assert!(faults[8].starts_with(&(at(12) + "cluster \"prod\": endpoint \"default\": host = ")));
    assert!(faults[9].starts_with(&(at(13) + "cluster \"prod\": endpoint \"default\": port = 70000: ")));
    assert_eq!(faults[10], at(17) + "listener \"main\": database_: unknown key; did you mean \"database\"?");
    assert!(faults[11].starts_with(&(at(18) + "listener \"main\": tls = \"on\": must be \"off\", \"allow\" or")));
    assert_eq!(faults.len(), 12, "{faults:#?}");
    assert!(!faults.concat().contains("hunter2"), "{faults:#?}");
}

#[test]
fn regions_are_understood_in_the_spelling_of_the_cloud_api() {
    let text = "[[cluster.prod.endpoint]]\nregion = \"gcp-us-east1\"\nhost = \"h1\"\n\
                [[listener]]\nregions = [\"us-east1\"]\n";

    let loaded = World::of_file(&format!("{ONE_CLUSTER}{text}")).loaded();

    let regions = Regions::Listed(vec!["gcp-us-east1".to_owned()]);
    assert_eq!(loaded.settings.listeners[0].policy.regions, regions);
}

#[test]
fn flags_that_mean_one_thing_are_refused_beside_several() {
    let second = "[cluster.two]\nca = \"c\"\nuser = \"u\"\npassword = { file = \"p\" }\n\
                  [[cluster.two.endpoint]]\nhost = \"h\"\n";
    let listeners = "[[listener]]\ncluster = \"prod\"\n[[listener]]\ncluster = \"two\"\naddress = \"localhost:5\"\n";
    let two = format!("{ONE_CLUSTER}{second}{listeners}");
    let only = |world: World| {
        let faults = world.faults();
        assert_eq!(faults.len(), 1, "{faults:#?}");
        faults[0].clone()
    };

    let user = only(World::of_file(&two).flag(Flag::User, "x"));
    assert!(user.starts_with("flag --user: the file has 2 clusters"), "{user}");
    let listen = only(World::of_file(&two).flag(Flag::Listen, "localhost:1"));
    assert!(listen.starts_with("flag --listen: the file has 2 listeners"), "{listen}");
    let endpoints = format!("{ONE_CLUSTER}[[cluster.prod.endpoint]]\nname = \"b\"\nhost = \"x\"\n");
    let host = only(World::of_file(&endpoints).variable("CRDB_PROXY_HOST", "x"));
    assert!(host.starts_with("variable CRDB_PROXY_HOST: the file's cluster has 2 endpoints"), "{host}");
    let one = format!("{ONE_CLUSTER}[[listener]]\n");
    let several = only(World::of_file(&one).variable("CRDB_PROXY_LISTEN", "localhost:1, localhost:2"));
    assert!(several.contains("several addresses cannot replace"), "{several}");
    let passwords = World::of_file(ONE_CLUSTER)
        .variable("CRDB_PROXY_PASSWORD", "hunter2")
        .variable("CRDB_PROXY_PASSWORD_FILE", "p");
    assert!(only(passwords).contains("give one of them"));
}

#[test]
fn service_links_of_kubernetes_are_ignored_with_one_warning() {
    let loaded = World::of_file(ONE_CLUSTER)
        .variable("CRDB_PROXY_PORT", "tcp://10.0.0.1:26257")
        .variable("CRDB_PROXY_SERVICE_HOST", "10.0.0.1")
        .variable("CRDB_PROXY_SERVICE_PORT", "26257")
        .variable("CRDB_PROXY_SERVICE_PORT_SQL", "26257")
        .variable("CRDB_PROXY_PORT_26257_TCP_ADDR", "10.0.0.1")
        .variable("CRDB_PROXY_ADMIN_PORT", "udp://10.0.0.1:26257")
        .loaded();

    assert_eq!(loaded.settings.clusters[0].endpoints[0].port, 26257);
    assert_eq!(loaded.warnings.len(), 1, "{:?}", loaded.warnings);
    assert!(loaded.warnings[0].contains("enableServiceLinks: false"), "{:?}", loaded.warnings);
}

#[test]
fn a_variable_that_a_secret_names_is_no_unknown_one() {
    let text = ONE_CLUSTER.replace("file = \"p\"", "env = \"CRDB_PROXY_SECRET\"");

    World::of_file(&text).variable("CRDB_PROXY_SECRET", "hunter2").loaded();

    assert_eq!(World::of_file(ONE_CLUSTER).variable("CRDB_PROXY_SECRET", "x").faults().len(), 1);
}

#[cfg(unix)]
#[test]
fn a_variable_that_is_not_utf8_is_a_fault_without_its_value() {
    use std::os::unix::ffi::OsStringExt;
    let mut world = World::of_file(ONE_CLUSTER);
    let value = OsString::from_vec(b"hunter2\xff".to_vec());
    world.inputs.variables.push(("CRDB_PROXY_URL".into(), value));

    assert_eq!(world.faults(), ["variable CRDB_PROXY_URL: is not UTF-8"]);
}

#[test]
fn with_nothing_given_the_usual_files_are_looked_for_and_else_help_is_due() {
    let folder = tempfile::tempdir().unwrap();
    let usual = folder.path().join("crdb-proxy.toml");
    let mut world = World::default();
    world.inputs.usual_files = vec![folder.path().join("none.toml"), usual.clone()];

    let nothing = world.clone().load().unwrap_err();
    fs::write(&usual, ONE_CLUSTER).unwrap();
    let found = world.clone().loaded();
    let with_host = world.url("postgresql://a:b@h?sslrootcert=system").loaded();

    assert!(nothing.is_nothing_given());
    assert!(nothing.to_string().contains("none.toml"), "{nothing}");
    assert_eq!(found.settings.file.as_deref(), Some(usual.as_path()));
    assert_eq!(with_host.settings.file, None);
}

#[test]
fn relative_paths_count_from_the_folder_of_a_symbolic_link_and_not_from_where_it_leads() {
    let root = tempfile::tempdir().unwrap();
    let (real, link) = (root.path().join("real"), root.path().join("link"));
    fs::create_dir(&real).unwrap();
    fs::create_dir(&link).unwrap();
    fs::write(real.join("f.toml"), ONE_CLUSTER).unwrap();
    std::os::unix::fs::symlink(real.join("f.toml"), link.join("f.toml")).unwrap();
    let mut inputs = Inputs { working_folder: "/w".into(), cores: 1, ..Inputs::default() };
    inputs.flags.config = Some(link.join("f.toml"));

    let loaded = load(&inputs).unwrap();

    assert_eq!(loaded.settings.clusters[0].ca, CaSource::File(link.join("ca.crt")));
}

#[test]
fn a_file_that_a_variable_names_and_that_is_missing_says_both() {
    let faults = World::default().variable("CRDB_PROXY_CONFIG", "none.toml").faults();

    assert_eq!(faults, ["none.toml: no such file; check the path (named by variable CRDB_PROXY_CONFIG)"]);
}

#[test]
fn a_password_in_a_connection_string_is_warned_about_on_the_command_line_only() {
    let url = "postgresql://a:hunter2@h?sslrootcert=system";

    let argument = World::default().url(url).loaded();
    let variable = World::default().variable("CRDB_PROXY_URL", url).loaded();

    assert!(argument.warnings[0].contains("process list"), "{:?}", argument.warnings);
    assert!(!argument.warnings[0].contains("hunter2"));
    assert_eq!(variable.warnings, Vec::<String>::new());
}

#[test]
fn what_is_shown_is_a_settings_file_that_means_the_same() {
    let text = format!(
        "{ONE_CLUSTER}[[listener]]\nname = \"a.b\"\naddress = \"unix:/run/x\"\nmode = \"0660\"\n\
         session_parameters = {{ application_name = \"x \\\"y\\\" z\" }}\nsession_age_limit = \"90s\"\n\
         local_password = {{ command = [\"p\", \"a b\"], lifetime = \"1h\" }}\n\
         regions = \"nearest\"\npath = [\"public\"]\nprefer = \"region\"\noverflow = true\nwarm_max = 0\n\
         [[listener]]\naddress = \"localhost:5\"\ntls = \"allow\"\ntls_cert = \"c\"\ntls_key = \"k\"\nreuse = true\n\
         regions = {{ nearest = [\"us-east1\"] }}\n\
         [[cluster.prod.endpoint]]\nkind = \"psc\"\nregion = \"gcp-us-east1\"\nhost = \"h\"\nendpoint_name = \"n\"\n"
    );
    let text = format!("admin_post = true\nwarm_total_max = 7\nprobe_down_interval = \"100ms\"\n{text}");
    let first = World::of_file(&text).loaded();

    let again = World::of_file(&show(&first)).loaded();

    let without_file = |loaded: Loaded| Settings { file: None, ..loaded.settings };
    assert_eq!(without_file(again), without_file(first));
}

#[test]
fn each_shown_value_has_its_source_and_no_secret_is_shown() {
    let pem = "-----BEGIN%20CERTIFICATE-----%0AMAAA";
    let url = format!("postgresql://app:hunter2@h?sslinline=true&sslrootcert={pem}");
    let loaded = World::default().url(&url).variable("CRDB_PROXY_LOG_LEVEL", "debug").loaded();

    let shown = show(&loaded);

    for line in [
        "log_level = \"debug\"  # variable CRDB_PROXY_LOG_LEVEL\n",
        "log_format = \"text\"  # default\n",
        "user = \"app\"  # connection string\n",
        "# password: from the connection string, not shown\n",
        "# ca: from the connection string, not shown\n",
    ] {
        assert!(shown.contains(line), "{line} is missing in\n{shown}");
    }
    for text in [shown, show_json(&loaded), format!("{loaded:?}")] {
        assert!(!text.contains("hunter2"), "{text}");
    }
}
