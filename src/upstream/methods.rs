//! Which ways to log in a user's server may ask for: those that the settings name, else none that is weaker than what it
//! asked for before.

use super::error::LoginError;
use crate::settings::{AuthKind, AuthMethod, SqlUser};
use std::sync::{
    Arc,
    atomic::{AtomicBool, Ordering::Relaxed},
};

/// What a user's server may ask for.
#[derive(Clone, Debug)]
pub(super) struct Methods {
    required: Option<Vec<AuthMethod>>,
    has_token: bool,
    has_password: bool,
    has_certificate: bool,
    /// The server has proven by SCRAM that it knows the password. Holds for whatever secret comes next: a server that could
    /// do it once can do it again.
    has_proven: Arc<AtomicBool>,
}

/// Why a way to log in is not gone.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Why {
    /// `require_auth` does not name it.
    NotRequired,
    /// It is weaker than what the server asked for before.
    Weaker,
}

impl Why {
    /// What the server did, for people.
    pub(crate) fn told(self, asked: AuthMethod) -> String {
        let did = match asked {
            AuthMethod::Scram => "asks for SCRAM-SHA-256",
            AuthMethod::Password => "asks for the password in clear text",
            AuthMethod::Nothing => "let us in without asking for the password",
        };
        match self {
            Self::NotRequired => format!("the server {did}, and \"require_auth\" has no \"{asked}\""),
            Self::Weaker => format!("the server {did}, and has proven with SCRAM before that it knows the password"),
        }
    }

    /// What most likely is behind it, and the key that would allow it.
    pub(crate) fn hint(self, asked: AuthMethod) -> String {
        match (self, asked) {
            (Self::NotRequired, _) => {
                format!(
                    "Is this really the cluster, and is its login as it was meant? Then add \"{asked}\" to \"require_auth\"."
                )
            }
            (Self::Weaker, AuthMethod::Password) => format!(
                "Most likely the user's password was set again with another kind of hash, or the cluster's login settings \
                 were changed; else something that holds its certificate poses as the cluster. If it is meant, allow it with \
                 require_auth = [\"scram-sha-256\", \"{asked}\"]."
            ),
            (Self::Weaker, _) => format!(
                "Most likely the cluster's HBA rules were changed; else something that holds its certificate poses as the \
                 cluster. If it is meant, allow it with require_auth = [\"scram-sha-256\", \"{asked}\"]."
            ),
        }
    }
}

impl Methods {
    /// Of a user; what its server has shown of itself before is in `known`.
    pub(super) fn of(user: &SqlUser, known: Option<&Self>) -> Self {
        Self {
            required: user.require_auth.clone(),
            has_token: user.auth == AuthKind::Jwt,
            has_password: user.password.is_some() || user.asks_client,
            has_certificate: user.client_certificate.is_some(),
            has_proven: known.map(|known| Arc::clone(&known.has_proven)).unwrap_or_default(),
        }
    }

    /// Whether the server may ask for this.
    pub(super) fn check(&self, asked: AuthMethod) -> Result<(), LoginError> {
        if let Some(required) = &self.required {
            let is_named = required.contains(&asked);
            return if is_named { Ok(()) } else { Err(LoginError::NotAllowed { asked, why: Why::NotRequired }) };
        }
        // A server that knows us by our certificate need not ask for more, and one that was never told a password cannot.
        let is_enough = match asked {
            AuthMethod::Scram => true,
            AuthMethod::Password => self.has_token,
            AuthMethod::Nothing => self.has_certificate || !self.has_password,
        };
        if is_enough || !self.has_proven.load(Relaxed) {
            return Ok(());
        }
        Err(LoginError::NotAllowed { asked, why: Why::Weaker })
    }

    /// The server has proven by SCRAM that it knows the password.
    pub(super) fn has_proven(&self) {
        self.has_proven.store(true, Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::settings::{CertificateFiles, SecretSource};
    use AuthMethod::{Nothing, Password, Scram};

    fn user(auth: AuthKind, has_certificate: bool, require_auth: Option<Vec<AuthMethod>>) -> SqlUser {
        let files = || CertificateFiles { cert: "c".into(), key: "k".into() };
        SqlUser {
            name: "app".to_owned(),
            auth,
            password: Some(SecretSource::Env("P".to_owned())),
            client_certificate: has_certificate.then(files),
            asks_client: false,
            require_auth,
            has_own_table: false,
        }
    }

    fn allowed(methods: &Methods) -> [bool; 3] {
        [Scram, Password, Nothing].map(|asked| methods.check(asked).is_ok())
    }

    #[test]
    fn nothing_weaker_is_allowed_once_a_server_has_proven_itself() {
        let methods = Methods::of(&user(AuthKind::Password, false, None), None);
        assert_eq!(allowed(&methods), [true, true, true]);

        methods.has_proven();

        assert_eq!(allowed(&methods), [true, false, false]);
        let after_a_reload = Methods::of(&user(AuthKind::Password, false, None), Some(&methods));
        assert_eq!(allowed(&after_a_reload), [true, false, false]);
    }

    #[test]
    fn a_token_is_always_a_password_and_a_certificate_may_be_enough() {
        for (auth, has_certificate, expected) in
            [(AuthKind::Jwt, false, [true, true, false]), (AuthKind::Password, true, [true, false, true])]
        {
            let methods = Methods::of(&user(auth, has_certificate, None), None);
            methods.has_proven();
            assert_eq!(allowed(&methods), expected, "{auth:?}");
        }
    }

    #[test]
    fn what_the_settings_name_is_allowed_and_nothing_else() {
        for (named, expected) in [(vec![Password], [false, true, false]), (vec![Scram, Nothing], [true, false, true])] {
            let methods = Methods::of(&user(AuthKind::Password, false, Some(named)), None);
            assert_eq!(allowed(&methods), expected);
            methods.has_proven();
            assert_eq!(allowed(&methods), expected);
        }
    }
}
