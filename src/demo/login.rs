//! Startup and SCRAM-SHA-256 login of a region's session, as CockroachDB does them: any user gets a
//! challenge, one user passes. Owns the password's verifier; never the password itself.

use super::{
    cancel::CancelKey,
    error::fatal,
    functions,
    region::{Shared, State},
};
use crate::scram::{AwaitsProof, SCRAM_SHA_256, ScramError, ServerExchange, Verifier};
use async_trait::async_trait;
use futures::Sink;
use pgwire::api::{
    ClientInfo, METADATA_USER, PidSecretKeyGenerator,
    auth::{
        AuthDriver, AuthOutcome, ServerParameterProvider, StartupHandler,
        mechanism::{AuthMechanism, AuthState},
        protocol_negotiation, save_startup_parameters_to_metadata,
    },
};
use pgwire::error::{PgWireError, PgWireResult};
use pgwire::messages::{
    PgWireBackendMessage, PgWireFrontendMessage,
    startup::{Authentication, PasswordMessageFamily, SecretKey},
};
use std::{
    collections::HashMap,
    fmt, io,
    num::NonZero,
    sync::{Arc, OnceLock},
};
use tokio::sync::OwnedSemaphorePermit;

/// What a login is checked against; shared by all regions.
#[derive(Clone, Debug)]
pub(super) struct Users {
    user: String,
    verifier: Arc<Verifier>,
    /// What an unknown user meets.
    decoy: Arc<Verifier>,
}

impl Users {
    /// The only user and the password, of which a verifier is kept.
    ///
    /// # Errors
    /// When there are no random bytes.
    pub(super) fn only(user: &str, password: &str) -> io::Result<Self> {
        let verifier = Verifier::derive(password.as_bytes(), ITERATIONS).map_err(io::Error::other)?;
        let decoy = verifier.decoy().map_err(io::Error::other)?;
        Ok(Self { user: user.to_owned(), verifier: Arc::new(verifier), decoy: Arc::new(decoy) })
    }

    fn verifier_of(&self, user: &str) -> Arc<Verifier> {
        Arc::clone(if user == self.user { &self.verifier } else { &self.decoy })
    }
}

/// A SCRAM exchange with one client.
enum Scram {
    AwaitsFirst(ServerExchange),
    AwaitsProof(AwaitsProof),
    Over,
}

#[async_trait]
impl AuthMechanism for Scram {
    async fn begin(&mut self, _: &(dyn ClientInfo + Send + Sync)) -> PgWireResult<AuthState> {
        Ok(AuthState::InProgress(Authentication::SASL(vec![SCRAM_SHA_256.to_owned()])))
    }

    async fn next(
        &mut self,
        client: &(dyn ClientInfo + Send + Sync),
        message: PasswordMessageFamily,
    ) -> PgWireResult<AuthState> {
        let failed = |error| AuthState::Failed(refusal(&error, client));
        match std::mem::replace(self, Self::Over) {
            Self::AwaitsFirst(exchange) => {
                let chosen = message.into_sasl_initial_response()?;
                if chosen.auth_method != SCRAM_SHA_256 {
                    return Ok(AuthState::Failed(PgWireError::UnsupportedSASLAuthMethod(chosen.auth_method)));
                }
                let first = exchange.client_first(chosen.data.as_deref().unwrap_or_default());
                Ok(first.map_or_else(failed, |(challenge, awaits_proof)| {
                    *self = Self::AwaitsProof(awaits_proof);
                    AuthState::InProgress(Authentication::SASLContinue(challenge.into()))
                }))
            }
            Self::AwaitsProof(awaits_proof) => {
                let proof = awaits_proof.client_final(&message.into_sasl_response()?.data);
                Ok(proof.map_or_else(failed, |signature| AuthState::Ok {
                    final_message: Some(Authentication::SASLFinal(signature.into())),
                    identity: None,
                }))
            }
            Self::Over => Err(PgWireError::NoAuthenticationInProgress),
        }
    }
}

fn refusal(error: &ScramError, client: &dyn ClientInfo) -> PgWireError {
    if matches!(error, ScramError::WrongPassword) {
        return fatal("28P01", &format!("password authentication failed for user {}", user_of(client)));
    }
    fatal("08P01", &error.to_string())
}

fn user_of(client: &dyn ClientInfo) -> String {
    client.metadata().get(METADATA_USER).cloned().unwrap_or_default()
}

/// Logs one session in.
pub(super) struct Login {
    driver: AuthDriver<Parameters>,
    shared: Arc<Shared>,
    place: OnceLock<OwnedSemaphorePermit>,
}

impl Login {
    /// A login that hands out `key` once it has succeeded.
    pub(super) fn new(shared: Arc<Shared>, key: CancelKey) -> Self {
        let driver = AuthDriver::new(Parameters).with_pid_secret_key_generator(Arc::new(Key(key)));
        Self { driver, shared, place: OnceLock::new() }
    }

    fn admit(&self, user: Option<&String>) -> PgWireResult<()> {
        if *self.shared.state.borrow() == State::Draining {
            return Err(fatal("57P01", "server is not accepting clients, try another node"));
        }
        if user.is_none_or(String::is_empty) {
            return Err(fatal("28000", "no user name in the startup message"));
        }
        let place = Arc::clone(&self.shared.places).try_acquire_owned();
        if place.map(|place| self.place.set(place)).is_err() {
            return Err(fatal("53300", "sorry, too many clients already"));
        }
        Ok(())
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
        let outcome = match message {
            PgWireFrontendMessage::Startup(startup) => {
                self.admit(startup.parameters.get(METADATA_USER))?;
                protocol_negotiation(client, &startup).await?;
                save_startup_parameters_to_metadata(client, &startup);
                let exchange = ServerExchange::new(self.shared.users.verifier_of(&user_of(client)));
                self.driver.begin_authentication(client, Box::new(Scram::AwaitsFirst(exchange))).await?
            }
            PgWireFrontendMessage::PasswordMessageFamily(message) => {
                self.driver.advance_authentication(client, message).await?
            }
            _ => AuthOutcome::InProgress,
        };
        match outcome {
            AuthOutcome::InProgress => Ok(()),
            AuthOutcome::Authenticated { final_message, .. } => {
                self.driver.complete_authentication(client, final_message).await
            }
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
const ITERATIONS: NonZero<u32> = NonZero::new(10_610).unwrap();
