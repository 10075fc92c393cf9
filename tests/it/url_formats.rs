//! The formats of `url`: whatever names there are, those who read each format find the same names in it.

use crate::{
    drivers::{environment, script},
    harness::{
        DEADLINE, FakeUpstream, PASSWORD, Postgres, SettingsFile, TestProxy,
        postgres::program,
        process::{self, Finished},
        proxy::run_daemon,
    },
};
use base64::{Engine, prelude::BASE64_STANDARD};
use proptest::{prelude::*, strategy::ValueTree, test_runner::TestRunner};
use serde_json::{Value, json};
use std::{
    collections::BTreeMap,
    fs,
    io::Write,
    path::Path,
    process::{Command, Stdio},
};

/// What a listener's clients must say.
#[derive(Clone, Debug, PartialEq)]
struct Names {
    user: String,
    database: String,
    /// A Unix socket's, in the folder of the settings.
    folder: Option<String>,
    needs_tls: bool,
}

impl Names {
    fn sslmode(&self) -> &'static str {
        if self.needs_tls { "require" } else { "disable" }
    }

    fn host(&self, within: &Path) -> String {
        self.folder.as_ref().map_or("localhost".to_owned(), |folder| format!("{}/{folder}", within.display()))
    }

    fn parts(&self, within: &Path, port: usize) -> [String; 5] {
        [self.host(within), port.to_string(), self.user.clone(), self.database.clone(), self.sslmode().to_owned()]
    }
}

/// Many of them at once: each reader is a process, and starting one takes longer than what it reads.
fn many() -> impl Strategy<Value = Vec<Names>> {
    let name = || {
        let nasty = "[a-z'\"\\\\%$`\n\r\t &?#/=:@,;!~{}+*|<>()\\[\\]-]{1,10}".boxed();
        let any = prop_oneof![nasty, "\\PC{1,6}".boxed(), any::<String>().boxed(), Just("-c".to_owned()).boxed()];
        // What no name may be: empty, or a connection string that was put in the wrong place; NUL has its own test.
        any.prop_filter("no name", |name| {
            let is_login = name.contains(':') && name.contains('@');
            !name.is_empty() && !name.contains('\0') && !name.contains("://") && !is_login
        })
    };
    let folder = proptest::option::weighted(0.3, "[a-z '\"\\\\%$&ü]{1,8}[a-z]");
    let names = (name(), name(), folder, any::<bool>());
    let names = names.prop_map(|(user, database, folder, tls)| Names {
        needs_tls: tls && folder.is_none(),
        user,
        database,
        folder,
    });
    proptest::collection::vec(names, 12)
}

/// Settings with a cluster and a listener for each; the listener's port is 10000 and its place.
fn settings_of(all: &[Names]) -> tempfile::TempDir {
    let folder = tempfile::Builder::new().prefix("crdb-proxy-it-").tempdir().unwrap();
    let mut text = String::from("admin = \"unix:none.sock\"\n");
    let text_of = |name: &str| toml::Value::String(name.to_owned()).to_string();
    for (place, names) in all.iter().enumerate() {
        let port = port_of(place);
        let address = match &names.folder {
            Some(folder) => format!("unix:{folder}/.s.PGSQL.{port}"),
            None => format!("localhost:{port}"),
        };
        let tls = if names.needs_tls { "tls = \"require\"\ntls_cert = \"c\"\ntls_key = \"k\"" } else { "" };
        text += &format!(
            "[cluster.c{place}]\nca = \"system\"\nuser = {}\npassword = {{ file = \"p\" }}\n\
             [[cluster.c{place}.endpoint]]\nhost = \"db.example\"\n\
             [[listener]]\nname = \"l{place}\"\ncluster = \"c{place}\"\naddress = {}\ndatabase = {}\n{tls}\n",
            text_of(&names.user),
            text_of(&address),
            text_of(&names.database),
        );
    }
    fs::write(folder.path().join("f.toml"), text).unwrap();
    folder
}

fn port_of(place: usize) -> usize {
    10000 + place
}

fn url(folder: &Path, format: &str) -> Finished {
    run_daemon(folder, &["url", "--config", "f.toml", "--format", format], &[])
}

/// The blocks of a format by the place of their listener. Nothing in them is a control character.
fn blocks(finished: Finished) -> BTreeMap<usize, String> {
    let shows = |letter: char| letter == '\n' || !letter.is_control();
    assert!(finished.stdout.chars().all(shows) && finished.stderr.chars().all(shows));
    let printed = finished.expect_success();
    let mut blocks = BTreeMap::new();
    for block in printed.split("# listener \"l").skip(1) {
        let (place, text) = block.split_once("\"\n").unwrap();
        assert!(blocks.insert(place.parse().unwrap(), text.trim_end().to_owned()).is_none());
    }
    blocks
}

/// Each block as a program in another language has it.
fn read(command: &mut Command, input: &str) -> Vec<u8> {
    let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
    child.stdin.take().unwrap().write_all(input.as_bytes()).unwrap();
    let output = child.wait_with_output().unwrap();
    assert!(output.status.success(), "{command:?}");
    output.stdout
}

fn python(name: &str, blocks: &BTreeMap<usize, String>) -> Vec<Value> {
    let mut python = Command::new(environment("python/bin/python"));
    let texts = json!(blocks.values().collect::<Vec<_>>()).to_string();
    serde_json::from_slice(&read(python.arg(script(name)), &texts)).unwrap()
}

/// What these commands leave in variables, and what `cockroach` would be given.
fn shell(shell: &str, commands: &str) -> Vec<String> {
    let script = format!(
        "cockroach() {{ printf '%s\\0' \"$@\"; }}\nset -eu\n{commands}\n\
         for v in PGHOST PGPORT PGUSER PGDATABASE PGSSLMODE DATABASE_URL COCKROACH_URL PGSSLROOTCERT; do \
         eval \"printf '%s\\\\0' \\\"\\${{$v-}}\\\"\"; done"
    );
    let mut command = Command::new(shell);
    command.env_clear().env("PATH", std::env::var_os("PATH").unwrap()).env("PGSSLROOTCERT", "system");
    let printed = read(command.args(["-s"]), &script);
    printed.split(|byte| *byte == 0).map(|word| String::from_utf8(word.to_vec()).unwrap()).collect()
}

/// Holds for many names, few times: a case is a dozen of them, and several processes.
fn for_all(test: impl Fn(&[Names], &Path) -> Result<(), TestCaseError>) {
    let config =
        ProptestConfig { cases: 8, max_shrink_iters: 40, failure_persistence: None, ..ProptestConfig::default() };
    let run = |all: Vec<Names>| {
        let folder = settings_of(&all);
        test(&all, folder.path())
    };
    TestRunner::new(config).run(&many(), run).unwrap();
}

#[test]
fn libpq_finds_the_same_names_in_url_and_dsn() {
    for_all(|all, folder| {
        let (url, dsn) = (url(folder, "url"), url(folder, "dsn"));
        let told = dsn.stderr.matches("does not show; a DSN has no escape").count();
        // Where there is nothing else to print, that is a failure.
        let dsn = if told == all.len() { BTreeMap::new() } else { blocks(dsn) };
        let mut blocks = blocks(url);
        prop_assert_eq!((blocks.len(), dsn.len() + told), (all.len(), all.len()));
        // Both are read at once.
        blocks.extend(dsn.into_iter().map(|(place, block)| (place + all.len(), block)));
        for (place, parsed) in blocks.keys().zip(python("libpq_parse.py", &blocks)) {
            let place = place % all.len();
            let value = |key: &str| parsed[key].as_str().unwrap().to_owned();
            let found = ["host", "port", "user", "dbname", "sslmode"].map(value);
            prop_assert_eq!(found, all[place].parts(folder, port_of(place)));
        }
        Ok(())
    });
}

#[test]
fn shells_find_the_same_names_in_env_and_cockroach() {
    for_all(|all, folder| {
        let (env, cockroach, urls) =
            (blocks(url(folder, "env")), blocks(url(folder, "cockroach")), blocks(url(folder, "url")));
        prop_assert_eq!(env.len(), all.len());
        for (place, names) in all.iter().enumerate() {
            for name in ["dash", "bash"] {
                let url = urls[&place].clone();
                let mut expected = names.parts(folder, port_of(place)).to_vec();
                expected.extend([url.clone(), url.clone(), String::new(), String::new()]);
                prop_assert_eq!(shell(name, &env[&place]), expected);
                prop_assert_eq!(&shell(name, &cockroach[&place])[..3], ["sql", "--url", &url]);
            }
        }
        Ok(())
    });
}

#[test]
fn python_finds_the_same_names_in_django() {
    for_all(|all, folder| {
        let blocks = blocks(url(folder, "django"));
        prop_assert_eq!(blocks.len(), all.len());
        for (place, parsed) in blocks.keys().zip(python("python_parse.py", &blocks)) {
            let [host, port, user, database, sslmode] = all[*place].parts(folder, port_of(*place));
            let expected = json!({"default": {
                "ENGINE": "django_cockroachdb", "HOST": host, "PORT": port, "USER": user, "NAME": database,
                "OPTIONS": {"sslmode": sslmode},
            }});
            prop_assert_eq!(parsed, expected);
        }
        Ok(())
    });
}

#[test]
fn jdbc_finds_the_same_names_through_a_properties_file() {
    let runner = &mut TestRunner::deterministic();
    let all = (0..20).flat_map(|_| many().new_tree(runner).unwrap().current()).collect::<Vec<_>>();
    let folder = settings_of(&all);

    let finished = url(folder.path(), "jdbc");

    let told = finished.stderr.matches("JDBC reaches a Unix socket only by a socketFactory").count();
    let blocks = blocks(finished);
    assert_eq!(told, all.iter().filter(|names| names.folder.is_some()).count());
    assert_eq!(blocks.len() + told, all.len());
    let mut java = Command::new("java");
    java.args(["-cp", "/usr/share/java/postgresql.jar"]).arg(script("JdbcParse.java"));
    let lines = blocks.values().cloned().collect::<Vec<_>>().join("\n");
    let printed = String::from_utf8(read(&mut java, &lines)).unwrap();
    assert_eq!(printed.lines().count(), blocks.len());
    for (place, line) in blocks.keys().zip(printed.lines()) {
        let decode = |word: &str| String::from_utf8(BASE64_STANDARD.decode(word).unwrap()).unwrap();
        let found = line.split(' ').map(decode).collect::<Vec<_>>();
        assert_eq!(found, all[*place].parts(folder.path(), port_of(*place)));
    }
}

#[test]
fn psql_connects_by_url_dsn_and_env() {
    let server = Postgres::start();
    let settings = SettingsFile::of(&server).address("unix:it's a %folder");
    fs::create_dir(settings.path("it's a %folder")).unwrap();
    let proxy = settings.another_listener("tcp", "database = \"other\"").start();
    let admin = proxy.listener("admin");
    let printed = |listener: &str, format: &str| {
        let words = ["url", listener, "--admin", &admin, "--format", format];
        run_daemon(&proxy.path(""), &words, &[]).expect_success()
    };
    for (listener, database) in [("main", "defaultdb"), ("tcp", "other")] {
        let who = "select current_user || ' at ' || current_database()";
        let expected = format!("app at {database}");
        for format in ["url", "dsn"] {
            let mut psql = Command::new(program("psql"));
            psql.args(["-XAt", "-c", who, &printed(listener, format)]).env("PGPASSWORD", PASSWORD);
            assert_eq!(process::run(&mut psql, "", DEADLINE).expect_success(), expected, "{listener} {format}");
        }
        let mut sh = Command::new("sh");
        sh.args(["-c", "eval \"$1\"; exec \"$2\" -XAtc \"$3\"", "sh", &printed(listener, "env")]);
        sh.arg(program("psql")).arg(who).env("PGSSLROOTCERT", "system").env("PGHOSTADDR", "192.0.2.1");
        assert_eq!(process::run(&mut sh, "", DEADLINE).expect_success(), expected, "{listener} env");
    }
}

#[test]
fn jdbc_and_django_connect_by_theirs() {
    let server = Postgres::start();
    let proxy = TestProxy::before(&server);
    let admin = proxy.listener("admin");
    let printed = |format: &str| {
        run_daemon(&proxy.path(""), &["url", "--admin", &admin, "--format", format], &[]).expect_success()
    };
    let mut java = Command::new("java");
    java.args(["-cp", "/usr/share/java/postgresql.jar"]).arg(script("Jdbc.java"));
    java.env("URL", printed("jdbc"));
    let java = process::run(java.env("STEPS", "transaction prepared"), "", DEADLINE * 3).expect_success();
    assert_eq!(java, "transaction\nprepared");
    let mut python = Command::new(environment("python/bin/python"));
    python.args(["-c", DJANGO]).env("PGSSLROOTCERT", "none.crt");
    // The package for CockroachDB asks for its version, which PostgreSQL does not have.
    let settings = printed("django").replace("django_cockroachdb", "django.db.backends.postgresql");
    assert_eq!(process::run(&mut python, &settings, DEADLINE * 2).expect_success(), "app");
}

const DJANGO: &str = "\
import sys
exec(sys.stdin.read())
import django
from django.conf import settings
settings.configure(DATABASES=DATABASES)
django.setup()
from django.db import connection
with connection.cursor() as cursor:
    cursor.execute('select current_user')
    print(*cursor.fetchone())
";

#[test]
fn each_format_is_in_the_words_of_its_driver() {
    let cluster = FakeUpstream::answering();
    let settings = SettingsFile::of(&cluster).address("localhost:26257").listener("database = \"shop\"");
    settings.write();
    let folder = settings.path("");
    let url = |format: &str| {
        let words = ["url", "--config", "crdb-proxy.toml", "--format", format];
        run_daemon(&folder, &words, &[]).expect_success()
    };

    let plain = "postgresql://app@localhost:26257/shop?sslmode=disable";
    assert_eq!(url("url"), plain);
    assert_eq!(url("dsn"), "host=localhost port=26257 user=app dbname=shop sslmode=disable");
    assert_eq!(url("jdbc"), "jdbc:postgresql://localhost:26257/shop?user=app&sslmode=disable");
    assert_eq!(url("sqlalchemy"), "cockroachdb+psycopg://app@localhost:26257/shop?sslmode=disable");
    assert_eq!(url("cockroach"), format!("cockroach sql --url '{plain}'"));
    assert_eq!(url("prisma"), format!("# In schema.prisma: provider = \"cockroachdb\"\nDATABASE_URL=\"{plain}\""));
    let params = "username  app\npassword  (none: leave it empty)\nhost      localhost\nport      26257\n\
        database  shop\nsslmode   disable";
    assert_eq!(url("params"), params);
}

#[test]
fn names_that_a_format_cannot_carry_are_told() {
    let with = |database: &str, user: &str| {
        let names = Names { user: user.into(), database: database.into(), folder: None, needs_tls: false };
        settings_of(&[names])
    };
    for (format, database, user, told) in [
        ("dsn", "a\u{1b}b", "app", "dbname is \"a\\u{1b}b\", with a letter that does not show"),
        ("params", "shop", "a\nb", "user is \"a\\nb\""),
        ("prisma", "a b", "app", "Prisma takes a database's name as it stands"),
    ] {
        let folder = with(database, user);

        let failed = url(folder.path(), format);

        assert_eq!((failed.status.code(), failed.stdout.as_str()), (Some(2), ""), "{format}");
        assert!(failed.stderr.contains(told), "{}", failed.stderr);
    }
    let folder = with("shop", "app");
    let failed = url(folder.path(), "yaml");
    assert_eq!(failed.status.code(), Some(2));
    assert!(
        failed.stderr.ends_with(
            "flag --format: must be one of url, dsn, jdbc, env, params, django, sqlalchemy, prisma, cockroach"
        ),
        "{}",
        failed.stderr
    );
}

#[test]
fn a_database_that_sqlalchemy_would_not_read_in_its_place_is_a_parameter() {
    let names = Names { user: "a@b".into(), database: "a/b c".into(), folder: None, needs_tls: true };
    let folder = settings_of(&[names.clone(), Names { folder: Some("s".into()), needs_tls: false, ..names }]);

    let printed = url(folder.path(), "sqlalchemy").expect_success();

    let path =
        percent_encoding::utf8_percent_encode(folder.path().to_str().unwrap(), percent_encoding::NON_ALPHANUMERIC);
    let path = path.to_string().replace("%2D", "-").replace("%2E", ".").replace("%5F", "_");
    let expected = format!(
        "# listener \"l0\"\ncockroachdb+psycopg://a%40b@localhost:10000/?dbname=a%2Fb%20c&sslmode=require\n\n\
         # listener \"l1\"\ncockroachdb+psycopg://a%40b@/?dbname=a%2Fb%20c&host={path}%2Fs&port=10001&sslmode=disable"
    );
    assert_eq!(printed, expected);
}

#[test]
fn every_format_says_that_a_password_is_asked_for_and_has_none() {
    let cluster = FakeUpstream::answering();
    let own = SettingsFile::of(&cluster).password("credential = \"client\"");
    let local =
        SettingsFile::of(&cluster).file("l.pw", "l0cal-secret").listener("local_password = { file = \"l.pw\" }");
    let none = SettingsFile::of(&cluster);
    for (settings, words) in
        [(own, Some("the password of the user")), (local, Some("its own password (\"local_password\")")), (none, None)]
    {
        let settings = settings.address("localhost:26257");
        settings.write();
        let live = settings.path("");
        for format in ["url", "dsn", "jdbc", "env", "params", "django", "sqlalchemy", "prisma", "cockroach"] {
            let said = run_daemon(&live, &["url", "--config", "crdb-proxy.toml", "--format", format], &[]);

            let told = format!("{}\n{}", said.stdout, said.stderr);
            assert_eq!(said.stderr.contains("asks for"), words.is_some(), "{format}: {told}");
            assert!(words.is_none_or(|words| said.stderr.contains(words)), "{format}: {told}");
            assert!(!told.contains("l0cal-secret"), "{format}: {told}");
            if format == "params" {
                assert_eq!(said.stdout.contains("(none: leave it empty)"), words.is_none(), "{told}");
                assert_eq!(said.stdout.contains("(asked for)"), words.is_some(), "{told}");
            }
        }
    }
}

#[test]
fn the_running_daemon_says_so_too_and_that_the_user_is_the_clients_to_choose() {
    let cluster = FakeUpstream::answering();
    let proxy = SettingsFile::of(&cluster)
        .file("l.pw", "l0cal-secret")
        .sql_user("app", "credential = \"client\"")
        .sql_user("reader", "password = { file = \"app.pw\" }")
        .listener("user_mode = \"map\"")
        .another_listener("local", "user = \"reader\"\nlocal_password = { file = \"l.pw\" }")
        .another_listener("plain", "user = \"reader\"\nuser_mode = \"must-match\"")
        .start();
    proxy.listener("plain");

    let listeners = proxy.status()["listeners"].clone();
    let said = |place: usize| {
        let listener = &listeners[place];
        json!([listener["user"], listener["user_mode"], listener["asks_for"]])
    };
    assert_eq!(said(0), json!([null, "map", "user_password"]));
    assert_eq!(said(1), json!(["reader", "replace", "local_password"]));
    assert_eq!(said(2), json!(["reader", "must-match", null]));
    let admin = proxy.listener("admin");
    let url = |words: &[&str]| {
        let words = [&["url", "--config", "crdb-proxy.toml"], words].concat();
        run_daemon(&proxy.path(""), &words, &[("CRDB_PROXY_ADMIN", &admin)])
    };
    let all = url(&[]);
    assert!(all.stdout.contains("postgresql://app@"), "{}", all.stdout);
    for words in ["listener \"main\": the client chooses the user", "listener \"local\" asks for its own password"] {
        assert!(all.stderr.contains(words), "{words}: {}", all.stderr);
    }
    assert!(!all.stderr.contains("listener \"plain\""), "{}", all.stderr);
}
