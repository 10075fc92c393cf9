//! Any bytes as an answer of any kind, for the fuzzer: the way that answers go, without a server.

use super::{
    AllowedNetwork, Cluster, ConnectionParameters, Database, Node, PrivateConnection, PrivateService, User, decode,
    lenient::Object, said, transport::Budget,
};
use crate::secret::Secret;
use serde_json::{Value, json};

/// One answer.
#[derive(Debug)]
pub(crate) enum AnyShape {
    Cluster(Cluster),
    Parameters(ConnectionParameters),
    Node(Node),
    User(User),
    Database(Database),
    Allowed(AllowedNetwork),
    Service(PrivateService),
    Connection(PrivateConnection),
}

/// Reads `json` as an answer of this kind; `None` where a call would fail.
pub(crate) fn any_shape(kind: u8, json: &[u8]) -> Option<AnyShape> {
    Budget::default().take(json).ok()?;
    let value: Value = serde_json::from_slice(json).ok()?;
    let object = Object::of(&value)?;
    Some(match kind % 8 {
        0 => AnyShape::Cluster(decode::cluster(object)?),
        1 => AnyShape::Parameters(decode::connection_parameters(object)),
        2 => AnyShape::Node(decode::node(object)?),
        3 => AnyShape::User(decode::user(object)?),
        4 => AnyShape::Database(decode::database(object)?),
        5 => AnyShape::Allowed(decode::allowed(object)?),
        6 => AnyShape::Service(decode::private_service(object)?),
        _ => AnyShape::Connection(decode::private_connection(object)?),
    })
}

/// What is told of an error's body.
pub(crate) fn error_message(body: &[u8], key: &Secret) -> Option<String> {
    said::message(body, Some(key))
}

impl AnyShape {
    /// As `--json` prints it.
    pub(crate) fn to_json(&self) -> String {
        let value = match self {
            Self::Cluster(it) => json!(it),
            Self::Parameters(it) => json!(it),
            Self::Node(it) => json!(it),
            Self::User(it) => json!(it),
            Self::Database(it) => json!(it),
            Self::Allowed(it) => json!(it),
            Self::Service(it) => json!(it),
            Self::Connection(it) => json!(it),
        };
        value.to_string()
    }
}
