//! What the flags of `setup` say, as far as it can be judged before the Cloud has told anything. Owns how a person
//! writes paths, regions and sources of a password, in flags and in answers.

use super::places;
use crate::{
    cli::SetupFlags,
    commands::{CommandError, whole_file::placed},
    settings::{EndpointKind, Inputs, Name, check_endpoint_name, same_region},
};
use std::path::PathBuf;

/// What was asked for; what was not said is `None` or empty.
pub(super) struct Wishes<'i> {
    pub(super) cluster: String,
    pub(super) user: Option<String>,
    pub(super) database: Option<String>,
    pub(super) path: Option<Vec<EndpointKind>>,
    pub(super) regions: Option<Regions>,
    /// Region and name of Private Service Connect endpoints.
    pub(super) psc: Vec<(String, String)>,
    pub(super) password: Option<PasswordAt>,
    /// What is to be written, absolute.
    pub(super) file: PathBuf,
    /// What paths in answers count from.
    pub(super) inputs: &'i Inputs,
    pub(super) force: bool,
}

/// Which regions may serve.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Regions {
    /// All, the one that answers soonest first.
    Nearest,
    /// These, in this order.
    These(Vec<String>),
}

/// Where a password is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum PasswordAt {
    File(PathBuf),
    Env(String),
    Command(Vec<String>),
}

impl<'i> Wishes<'i> {
    /// Tells all faults at once.
    pub(super) fn read(flags: &SetupFlags, inputs: &'i Inputs) -> Result<Self, CommandError> {
        let mut faults = Faults::default();
        let usual = inputs.usual_files.first().cloned().unwrap_or_default();
        let read = Self {
            cluster: flags.cluster.clone(),
            user: faults.take("--user", flags.user.as_deref().map(name)),
            database: faults.take("--database", flags.database.as_deref().map(name)),
            path: faults.take("--path", flags.path.as_deref().map(path)),
            regions: faults.take("--region", flags.region.as_deref().map(regions)),
            psc: flags.psc_endpoint.iter().filter_map(|said| faults.take("--psc-endpoint", Some(psc(said)))).collect(),
            password: password_of(flags, inputs, &mut faults),
            file: flags.config.as_deref().map_or(usual, |file| placed(file, inputs)),
            inputs,
            force: flags.force,
        };
        if read.cluster.is_empty() {
            faults.0.push("--cluster: must not be empty".to_owned());
        }
        for (index, (region, _)) in read.psc.iter().enumerate() {
            if read.psc.iter().take(index).any(|(other, _)| same_region(other, region)) {
                faults.0.push(format!("--psc-endpoint: {region} has two names"));
            }
        }
        // An ID does not say what the file of the CA will be called.
        let ca = Name::new(&read.cluster).map(|name| places::ca_file(&read.file, name.as_str()));
        faults.0.extend(places::clash(&read.file, ca.as_deref(), read.password.as_ref()));
        faults.none().map(|()| read)
    }
}

/// What is wrong or missing, a sentence each.
#[derive(Default)]
pub(super) struct Faults(pub(super) Vec<String>);

impl Faults {
    fn take<T>(&mut self, flag: &str, read: Option<Result<T, String>>) -> Option<T> {
        match read? {
            Ok(value) => Some(value),
            Err(rule) => {
                self.0.push(format!("{flag}: {rule}"));
                None
            }
        }
    }

    /// All of them as one error, if there are any.
    pub(super) fn none(self) -> Result<(), CommandError> {
        if self.0.is_empty() { Ok(()) } else { Err(CommandError::Said(2, self.0.join("\n"))) }
    }
}

fn password_of(flags: &SetupFlags, inputs: &Inputs, faults: &mut Faults) -> Option<PasswordAt> {
    let file = flags.password_file.as_deref().map(|file| Ok(PasswordAt::File(placed(file, inputs))));
    let env = flags.password_env.as_deref().map(variable);
    let command = flags.password_command.as_deref().map(command);
    let mut given: Vec<_> = [("--password-file", file), ("--password-env", env), ("--password-command", command)]
        .into_iter()
        .filter(|(_, said)| said.is_some())
        .collect();
    if given.len() > 1 {
        let flags: Vec<_> = given.iter().map(|(flag, _)| *flag).collect();
        faults.0.push(format!("{}: one of them is enough", flags.join(", ")));
    }
    let (flag, said) = given.pop()?;
    faults.take(flag, said)
}

/// A name of a user or a database.
pub(super) fn name(said: &str) -> Result<String, String> {
    // What does not print cannot be compared by eye. A letter before them, since marks are fine behind one.
    let text = format!("a{}", said.replace(['"', '\'', '\\'], ""));
    if said.is_empty() || text.escape_debug().to_string() != text {
        return Err("must be a name, without characters that do not print".to_owned());
    }
    Ok(said.to_owned())
}

/// Kinds of endpoints, by commas.
pub(super) fn path(said: &str) -> Result<Vec<EndpointKind>, String> {
    let mut kinds = Vec::new();
    for word in words(said) {
        let Some((_, kind)) = PATHS.iter().find(|(known, _)| *known == word) else {
            return Err("must be public, internal or psc, or several of them in order, separated by commas".to_owned());
        };
        if kinds.contains(kind) {
            return Err(format!("names {word} twice"));
        }
        kinds.push(*kind);
    }
    if kinds.is_empty() { Err("must not be empty".to_owned()) } else { Ok(kinds) }
}

/// Regions by commas, or the word for all of them.
pub(super) fn regions(said: &str) -> Result<Regions, String> {
    let regions: Vec<_> = words(said).map(str::to_owned).collect();
    match regions.as_slice() {
        [] => Err("must not be empty".to_owned()),
        [one] if one == NEAREST => Ok(Regions::Nearest),
        several if several.iter().any(|region| region == NEAREST) => Err("\"nearest\" stands alone".to_owned()),
        _ => Ok(Regions::These(regions)),
    }
}

fn psc(said: &str) -> Result<(String, String), String> {
    let form = || "must be REGION=NAME, as gcp-us-east1=my-endpoint".to_owned();
    let (region, name) = said.split_once('=').ok_or_else(form)?;
    if region.is_empty() {
        return Err(form());
    }
    check_endpoint_name(name)?;
    Ok((region.to_owned(), name.to_owned()))
}

/// The name of a variable. What else may stand here is a password by mistake, so it is not repeated.
pub(super) fn variable(said: &str) -> Result<PasswordAt, String> {
    let is_name = |text: &str| text.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_');
    if said.is_empty() || !is_name(said) || said.starts_with(|first: char| first.is_ascii_digit()) {
        return Err("must be the name of a variable, which holds the password".to_owned());
    }
    Ok(PasswordAt::Env(said.to_owned()))
}

/// A program and its arguments.
pub(super) fn command(said: &str) -> Result<PasswordAt, String> {
    let words: Vec<_> = said.split_ascii_whitespace().map(str::to_owned).collect();
    if words.is_empty() { Err("must name a program".to_owned()) } else { Ok(PasswordAt::Command(words)) }
}

/// The word for a kind that a cluster of the Cloud has.
pub(super) fn word(kind: EndpointKind) -> &'static str {
    PATHS.iter().find(|(_, known)| *known == kind).map_or("custom", |(word, _)| word)
}

fn words(said: &str) -> impl Iterator<Item = &str> {
    said.split([',', ' ']).map(str::trim).filter(|word| !word.is_empty())
}

/// Kinds of endpoints that a cluster of the Cloud has, in the order in which people read of them.
pub(super) const PATHS: [(&str, EndpointKind); 3] =
    [("public", EndpointKind::Public), ("internal", EndpointKind::Internal), ("psc", EndpointKind::Psc)];
pub(super) const NEAREST: &str = "nearest";

#[cfg(test)]
mod tests {
    use super::*;
    use std::path::Path;

    fn inputs() -> Inputs {
        Inputs {
            working_folder: "/srv".into(),
            usual_files: vec!["/home/app/.config/crdb-proxy/crdb-proxy.toml".into()],
            ..Inputs::default()
        }
    }

    fn read(inputs: &Inputs, change: impl FnOnce(&mut SetupFlags)) -> Result<Wishes<'_>, String> {
        let mut flags = SetupFlags { cluster: "prod".to_owned(), ..SetupFlags::default() };
        change(&mut flags);
        Wishes::read(&flags, inputs).map_err(|error| error.to_string())
    }

    #[test]
    fn what_was_not_said_is_left_open() {
        let inputs = inputs();

        let read = read(&inputs, |_| ()).ok().unwrap();

        assert!(read.user.is_none() && read.path.is_none() && read.regions.is_none() && read.password.is_none());
        assert_eq!(read.file, Path::new("/home/app/.config/crdb-proxy/crdb-proxy.toml"));
    }

    #[test]
    fn every_flag_is_read() {
        let inputs = inputs();

        let read = read(&inputs, |flags| {
            flags.path = Some("psc,public".to_owned());
            flags.region = Some("gcp-us-east1, gcp-us-west2".to_owned());
            flags.psc_endpoint = vec!["gcp-us-east1=one".to_owned(), "gcp-us-west2=two".to_owned()];
            flags.password_file = Some("prod.pw".into());
            flags.config = Some("out/prod.toml".into());
        });

        let read = read.ok().unwrap();
        assert_eq!(read.path, Some(vec![EndpointKind::Psc, EndpointKind::Public]));
        assert_eq!(read.regions, Some(Regions::These(vec!["gcp-us-east1".to_owned(), "gcp-us-west2".to_owned()])));
        assert_eq!(read.psc[1], ("gcp-us-west2".to_owned(), "two".to_owned()));
        assert_eq!(read.password, Some(PasswordAt::File("/srv/prod.pw".into())));
        assert_eq!(read.file, Path::new("/srv/out/prod.toml"));
    }

    #[test]
    fn all_that_is_wrong_is_told_at_once_and_no_secret_with_it() {
        let inputs = inputs();

        let told = read(&inputs, |flags| {
            flags.user = Some(String::new());
            flags.path = Some("private".to_owned());
            flags.region = Some("nearest,gcp-us-east1".to_owned());
            flags.psc_endpoint = ["one", "=x", "gcp-us-east1=Bad", "r=a", "gcp-r=b"].map(str::to_owned).to_vec();
            flags.password_env = Some("hunter2!".to_owned());
            flags.password_command = Some(" ".to_owned());
        });

        let told = told.err().unwrap();
        assert_eq!(told.lines().count(), 9, "{told}");
        assert!(told.contains("--path: must be public, internal or psc"), "{told}");
        assert!(told.contains("--region: \"nearest\" stands alone"), "{told}");
        assert!(told.contains("--psc-endpoint: must be REGION=NAME"), "{told}");
        assert!(told.contains("--psc-endpoint: gcp-r has two names"), "{told}");
        assert!(told.contains("--password-env, --password-command: one of them is enough"), "{told}");
        assert!(!told.contains("hunter2"), "{told}");
    }

    #[test]
    fn a_name_prints() {
        for said in ["", "a\u{1b}[2J", "a\u{202e}b", "a\u{2028}b", "\u{200b}", "a\nb"] {
            assert!(name(said).is_err(), "{said:?}");
        }
        for said in ["app", "it's \"me\"\\", "e\u{301}t\u{e9}", "\u{928}\u{93f}", "a b"] {
            assert_eq!(name(said).as_deref(), Ok(said));
        }
    }

    #[test]
    fn a_variable_that_is_none_may_be_a_password_and_is_not_repeated() {
        for said in ["", "hunter2!", "A=b", "1A"] {
            let rule = variable(said).unwrap_err();
            assert_eq!(rule, "must be the name of a variable, which holds the password");
        }
        assert_eq!(variable("PG_PW"), Ok(PasswordAt::Env("PG_PW".to_owned())));
    }
}
