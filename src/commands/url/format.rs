//! How a listener is reached, in the words of each driver. Pure: from parameters to text that may be pasted.

use super::quoting::{libpq_value, python_string, shell_export, shell_word, shows};
use crate::{
    commands::environment,
    settings::{ClientHost, ConnectionParameters, escaped},
};
use std::os::unix::ffi::OsStrExt;

/// Whose words.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Format {
    Url,
    Dsn,
    Jdbc,
    Env,
    Params,
    Django,
    Sqlalchemy,
    Prisma,
    Cockroach,
}

impl Format {
    /// Each under its name.
    pub(super) const ALL: [(&'static str, Self); 9] = [
        ("url", Self::Url),
        ("dsn", Self::Dsn),
        ("jdbc", Self::Jdbc),
        ("env", Self::Env),
        ("params", Self::Params),
        ("django", Self::Django),
        ("sqlalchemy", Self::Sqlalchemy),
        ("prisma", Self::Prisma),
        ("cockroach", Self::Cockroach),
    ];

    pub(super) fn named(name: &str) -> Option<Self> {
        Self::ALL.iter().find(|(known, _)| *known == name).map(|(_, format)| *format)
    }

    /// Lines, without an end of the last one. Of a password, that clients are asked for one is all that is said.
    ///
    /// # Errors
    /// It has no way to say that, and why.
    pub(super) fn render(self, parameters: &ConnectionParameters, asks_for_password: bool) -> Result<String, String> {
        environment::check(parameters)?;
        match self {
            Self::Url => Ok(parameters.url()),
            Self::Dsn => dsn(parameters),
            Self::Jdbc => jdbc(parameters),
            Self::Env => env(parameters),
            Self::Params => params(parameters, asks_for_password),
            Self::Django => django(parameters),
            Self::Sqlalchemy => Ok(sqlalchemy(parameters)),
            Self::Prisma => prisma(parameters),
            Self::Cockroach => Ok(format!("cockroach sql --url {}", shell_word(&parameters.url()))),
        }
    }
}

/// libpq's `keyword=value`.
fn dsn(parameters: &ConnectionParameters) -> Result<String, String> {
    let pairs = plainly(parameters, "a DSN has no escape for that; take another format")?;
    let pairs = pairs.map(|(keyword, value)| format!("{keyword}={}", libpq_value(&value)));
    Ok(format!("{} sslmode={}", pairs.join(" "), parameters.sslmode()))
}

/// What the "Connection parameters" of the Cloud Console's dialog are, and the mode of TLS.
fn params(parameters: &ConnectionParameters, asks_for_password: bool) -> Result<String, String> {
    let [host, port, user, database] = plainly(parameters, "it cannot be shown; take another format")?;
    let line = |title: &str, value: &str| format!("{title:<10}{value}");
    Ok([
        line("username", &user.1),
        line("password", if asks_for_password { "(asked for)" } else { "(none: leave it empty)" }),
        line("host", &host.1),
        line("port", &port.1),
        line("database", &database.1),
        line("sslmode", parameters.sslmode()),
    ]
    .join("\n"))
}

/// pgjdbc's. Nothing in it means anything in a properties file either.
fn jdbc(parameters: &ConnectionParameters) -> Result<String, String> {
    let ConnectionParameters { host, port, user, database, .. } = parameters;
    if matches!(host, ClientHost::Folder(_)) {
        return Err("JDBC reaches a Unix socket only by a socketFactory of another library; \
             have a listener at localhost:PORT beside it"
            .to_owned());
    }
    let (user, database) = (escaped(user.as_bytes()), escaped(database.as_bytes()));
    Ok(format!("jdbc:postgresql://{host}:{port}/{database}?user={user}&sslmode={}", parameters.sslmode()))
}

/// For `eval` in a POSIX shell.
fn env(parameters: &ConnectionParameters) -> Result<String, String> {
    let mut lines = vec![format!("unset {}", environment::MISLEADING.join(" "))];
    for (name, value) in environment::variables(parameters)? {
        let value = value.into_string().map_err(|_odd| NO_UTF8.to_owned())?;
        lines.push(shell_export(name, &value));
    }
    Ok(lines.join("\n"))
}

/// For `settings.py`.
fn django(parameters: &ConnectionParameters) -> Result<String, String> {
    let [host, port, user, database] = texts(parameters)?;
    let mut lines = vec![
        "DATABASES = {".to_owned(),
        "    \"default\": {".to_owned(),
        "        # Of the package django-cockroachdb. Without it \"django.db.backends.postgresql\" works for the most part."
            .to_owned(),
        "        \"ENGINE\": \"django_cockroachdb\",".to_owned(),
    ];
    for (key, (_, value)) in [("HOST", host), ("PORT", port), ("USER", user), ("NAME", database)] {
        lines.push(format!("        \"{key}\": {},", python_string(&value)));
    }
    lines.push(format!("        \"OPTIONS\": {{\"sslmode\": {}}},", python_string(parameters.sslmode())));
    lines.extend(["    }".to_owned(), "}".to_owned()]);
    Ok(lines.join("\n"))
}

/// Of the package sqlalchemy-cockroachdb, on psycopg 3.
fn sqlalchemy(parameters: &ConnectionParameters) -> String {
    let ConnectionParameters { host, port, user, database, .. } = parameters;
    let (user, name) = (escaped(user.as_bytes()), escaped(database.as_bytes()));
    // SQLAlchemy 2.0 takes the path as it stands, and a parameter as it is meant.
    let (path, parameter) =
        if name == *database { (name, String::new()) } else { (String::new(), format!("dbname={name}&")) };
    let sslmode = parameters.sslmode();
    match host {
        ClientHost::Folder(folder) => {
            let folder = escaped(folder.as_os_str().as_bytes());
            format!("cockroachdb+psycopg://{user}@/{path}?{parameter}host={folder}&port={port}&sslmode={sslmode}")
        }
        _ => format!("cockroachdb+psycopg://{user}@{host}:{port}/{path}?{parameter}sslmode={sslmode}"),
    }
}

/// For `.env`.
fn prisma(parameters: &ConnectionParameters) -> Result<String, String> {
    let ConnectionParameters { host, port, user, database, .. } = parameters;
    if escaped(database.as_bytes()) != *database {
        return Err(
            "Prisma takes a database's name as it stands in the connection string, where this one cannot stand"
                .to_owned(),
        );
    }
    let (user, sslmode) = (escaped(user.as_bytes()), parameters.sslmode());
    let url = match host {
        // It wants a host in its place as well.
        ClientHost::Folder(folder) => {
            let folder = escaped(folder.as_os_str().as_bytes());
            format!("postgresql://{user}@localhost:{port}/{database}?host={folder}&sslmode={sslmode}")
        }
        _ => format!("postgresql://{user}@{host}:{port}/{database}?sslmode={sslmode}"),
    };
    Ok(format!("# In schema.prisma: provider = \"cockroachdb\"\nDATABASE_URL=\"{url}\""))
}

/// By libpq's keywords.
type Pairs = [(&'static str, String); 4];

fn texts(parameters: &ConnectionParameters) -> Result<Pairs, String> {
    let ConnectionParameters { host, port, user, database, .. } = parameters;
    let host = match host {
        ClientHost::Folder(folder) => folder.to_str().ok_or(NO_UTF8)?.to_owned(),
        ClientHost::Ip(ip) => ip.to_string(),
        ClientHost::Localhost => host.to_string(),
    };
    Ok([("host", host), ("port", port.to_string()), ("user", user.clone()), ("dbname", database.clone())])
}

/// The same where each shows as it is; `else_say` goes on after what does not.
fn plainly(parameters: &ConnectionParameters, else_say: &str) -> Result<Pairs, String> {
    let pairs = texts(parameters)?;
    match pairs.iter().find(|(_, value)| !shows(value)) {
        Some((keyword, value)) => Err(format!("{keyword} is {value:?}, with a letter that does not show; {else_say}")),
        None => Ok(pairs),
    }
}

const NO_UTF8: &str = "the socket's folder is not UTF-8; take the format url";
