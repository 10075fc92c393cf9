//! Startup and SCRAM-SHA-256 login of a region's session, as CockroachDB does them: any user gets a
//! challenge, one user passes. Owns the password's verifier; never the password itself.

use super::{
    cancel::CancelKey,
    error::fatal,
    functions,
    region::{Shared, State},
};
use async_trait::async_trait;
use futures::Sink;
use pgwire::api::{
    ClientInfo, METADATA_USER, PidSecretKeyGenerator,
    auth::{
        AuthSource, LoginInfo, Password, ServerParameterProvider, StartupHandler,
        sasl::{
            SASLAuthStartupHandler,
            scram::{ScramAuth, gen_salted_password},
        },
    },
};
use pgwire::error::{PgWireError, PgWireResult};
use pgwire::messages::{PgWireBackendMessage, PgWireFrontendMessage, startup::SecretKey};
use std::{
    collections::HashMap,
    fmt,
    sync::{Arc, OnceLock},
};
use tokio::sync::OwnedSemaphorePermit;
use zeroize::Zeroizing;

/// What a login is checked against; shared by all regions.
#[derive(Clone)]
pub(super) struct Verifier {
    user: String,
    salt: [u8; 16],
    salted: Zeroizing<Vec<u8>>,
    /// What an unknown user meets: no password gives it.
    decoy: [u8; 32],
}

impl Verifier {
    /// The only user and the password, of which a salted form is kept.
    ///
    /// # Errors
    /// When there are no random bytes.
    pub(super) fn new(user: &str, password: &str) -> std::io::Result<Self> {
        let (mut salt, mut decoy) = ([0; 16], [0; 32]);
        for bytes in [salt.as_mut_slice(), decoy.as_mut_slice()] {
            aws_lc_rs::rand::fill(bytes).map_err(|_unspecified| std::io::Error::other("no random bytes"))?;
        }
        let salted = Zeroizing::new(gen_salted_password(password, &salt, ITERATIONS));
        Ok(Self { user: user.to_owned(), salt, salted, decoy })
    }
}

impl fmt::Debug for Verifier {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Verifier").field("user", &self.user).finish_non_exhaustive()
    }
}

#[async_trait]
impl AuthSource for Verifier {
    async fn get_password(&self, login: &LoginInfo) -> PgWireResult<Password> {
        let known = login.user() == Some(self.user.as_str());
        let salted = if known { self.salted.to_vec() } else { self.decoy.to_vec() };
        Ok(Password::new(Some(self.salt.to_vec()), salted))
    }
}

/// Logs one session in.
pub(super) struct Login {
    scram: SASLAuthStartupHandler<Parameters>,
    shared: Arc<Shared>,
    place: OnceLock<OwnedSemaphorePermit>,
}

impl Login {
    /// A login that hands out `key` once it has succeeded.
    pub(super) fn new(shared: Arc<Shared>, key: CancelKey) -> Self {
        let mut auth = ScramAuth::new(Arc::new(shared.verifier.clone()));
        auth.set_iterations(ITERATIONS);
        let scram = SASLAuthStartupHandler::new(Arc::new(Parameters))
            .with_scram(auth)
            .with_pid_secret_key_generator(Arc::new(Key(key)));
        Self { scram, shared, place: OnceLock::new() }
    }
}

#[async_trait]
impl StartupHandler for Login {
    async fn on_startup<C>(&self, client: &mut C, message: PgWireFrontendMessage) -> PgWireResult<()>
    where
        C: ClientInfo + Sink<PgWireBackendMessage> + Unpin + Send + Sync,
        C::Error: fmt::Debug,
        PgWireError: From<<C as Sink<PgWireBackendMessage>>::Error>,
    {
        if let PgWireFrontendMessage::Startup(startup) = &message {
            if *self.shared.state.borrow() == State::Draining {
                return Err(fatal("57P01", "server is not accepting clients, try another node"));
            }
            if startup.parameters.get(METADATA_USER).is_none_or(String::is_empty) {
                return Err(fatal("28000", "no user name in the startup message"));
            }
            let place = Arc::clone(&self.shared.places).try_acquire_owned();
            if place.map(|place| self.place.set(place)).is_err() {
                return Err(fatal("53300", "sorry, too many clients already"));
            }
        }
        match self.scram.on_startup(client, message).await {
            Err(PgWireError::InvalidPassword(_)) => {
                let user = client.metadata().get(METADATA_USER).cloned().unwrap_or_default();
                Err(fatal("28P01", &format!("password authentication failed for user {user}")))
            }
            other => other,
        }
    }
}

/// ParameterStatus, CockroachDB's list.
struct Parameters;

impl ServerParameterProvider for Parameters {
    fn server_parameters<C: ClientInfo>(&self, client: &C) -> Option<HashMap<String, String>> {
        let told = |name: &str| client.metadata().get(name).cloned().unwrap_or_default();
        let mut parameters: HashMap<_, _> = REPORTED
            .iter()
            .filter_map(|name| {
                let default = functions::DEFAULTS.iter().find(|(known, _)| name.eq_ignore_ascii_case(known))?;
                Some(((*name).to_owned(), default.1.to_owned()))
            })
            .collect();
        parameters.insert("application_name".to_owned(), told("application_name"));
        parameters.insert("session_authorization".to_owned(), told(METADATA_USER));
        Some(parameters)
    }
}

struct Key(CancelKey);

impl PidSecretKeyGenerator for Key {
    fn generate(&self, _client: &dyn ClientInfo) -> (i32, SecretKey) {
        (self.0.process, SecretKey::I32(self.0.secret))
    }
}

/// The name under which a variable is reported to clients, if it is.
pub(super) fn reported(name: &str) -> Option<&'static str> {
    REPORTED.into_iter().find(|known| known.eq_ignore_ascii_case(name))
}

const REPORTED: [&str; 11] = [
    "server_version",
    "server_encoding",
    "client_encoding",
    "application_name",
    "DateStyle",
    "IntervalStyle",
    "TimeZone",
    "is_superuser",
    "integer_datetimes",
    "standard_conforming_strings",
    "crdb_version",
];

/// CockroachDB's default since v23.1.
const ITERATIONS: usize = 10_610;
