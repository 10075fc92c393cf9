//! The ways to log in that a server may ask for, in libpq's words, and the rules for naming them.

use super::{AuthKind, tree::Node, values::list};
use std::fmt;

/// What a server may ask of whoever logs in, as far as the daemon does it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AuthMethod {
    /// SCRAM-SHA-256, with channel binding or without: the server proves that it knows the password, and never sees it.
    Scram,
    /// The password, or a token, as it is.
    Password,
    /// Nothing: a client certificate is enough, or the server trusts everybody.
    Nothing,
}

impl AuthMethod {
    /// libpq's word.
    pub fn word(self) -> &'static str {
        WORDS.iter().find(|(_, method)| *method == self).map_or("none", |(word, _)| word)
    }

    fn of_word(word: &str) -> Option<Self> {
        WORDS.iter().find(|(known, _)| *known == word).map(|(_, method)| *method)
    }
}

impl fmt::Display for AuthMethod {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.word())
    }
}

/// A list for `require_auth` in the settings; a token goes as a password or not at all.
pub(super) fn require_auth(node: &Node, auth: AuthKind) -> Result<Vec<AuthMethod>, String> {
    let mut methods = Vec::new();
    for word in list(node)? {
        let method = AuthMethod::of_word(&word).ok_or_else(|| RULE.to_owned())?;
        if methods.contains(&method) {
            return Err(format!("{method} stands there twice"));
        }
        methods.push(method);
    }
    match auth {
        _ if methods.is_empty() => Err(RULE.to_owned()),
        AuthKind::Jwt if !methods.contains(&AuthMethod::Password) => {
            Err("auth = \"jwt\" sends the token as a password, so \"password\" must be among them".to_owned())
        }
        _ => Ok(methods),
    }
}

/// What libpq's `require_auth` lets through of what the daemon does.
pub(super) fn of_libpq(text: &str) -> Result<Vec<AuthMethod>, &'static str> {
    let words: Vec<_> = text.split(',').map(str::trim).collect();
    let bare = |word: &str| word.strip_prefix('!').unwrap_or(word).to_owned();
    if words.iter().any(|word| !LIBPQ_WORDS.contains(&bare(word).as_str())) {
        return Err("must be methods of libpq's, separated by commas: scram-sha-256, password, none");
    }
    let denied = words.iter().filter(|word| word.starts_with('!')).count();
    let methods: Vec<_> = match denied {
        0 => WORDS.iter().filter(|(word, _)| words.contains(word)).map(|(_, method)| *method).collect(),
        _ if denied < words.len() => return Err("cannot both name methods and leave some out with !"),
        _ => {
            let is_left = |word: &str| words.iter().all(|denied| bare(denied) != word);
            WORDS.iter().filter(|(word, _)| is_left(word)).map(|(_, method)| *method).collect()
        }
    };
    if methods.is_empty() {
        Err("leaves none that crdb-proxy does: scram-sha-256, password, none")
    } else {
        Ok(methods)
    }
}

const RULE: &str = "must be a list of \"scram-sha-256\", \"password\" (in clear text under TLS) and \"none\" (a client \
                    certificate alone)";
const WORDS: [(&str, AuthMethod); 3] =
    [("scram-sha-256", AuthMethod::Scram), ("password", AuthMethod::Password), ("none", AuthMethod::Nothing)];
/// Those that only other programs do are known too.
const LIBPQ_WORDS: [&str; 7] = ["scram-sha-256", "password", "none", "md5", "gss", "sspi", "oauth"];

#[cfg(test)]
mod tests {
    use super::*;
    use AuthMethod::{Nothing, Password, Scram};

    #[test]
    fn libpqs_words_mean_what_they_mean_there() {
        for (text, methods) in [
            ("scram-sha-256", vec![Scram]),
            ("password, scram-sha-256", vec![Scram, Password]),
            ("none", vec![Nothing]),
            ("scram-sha-256,md5", vec![Scram]),
            ("!password,!md5", vec![Scram, Nothing]),
            ("!none", vec![Scram, Password]),
        ] {
            assert_eq!(of_libpq(text), Ok(methods), "{text}");
        }
        for text in ["", "scram", "md5", "!scram-sha-256,password", "!scram-sha-256,!password,!none", "password,,none"]
        {
            assert!(of_libpq(text).is_err(), "{text}");
        }
    }
}
