//! What the Cloud API answers.

use super::{CANARY, bytes::first};
use crate::{
    cloud::{AnyShape, any_shape, error_message},
    secret::Secret,
};
use std::net::Ipv4Addr;

pub(super) fn run(input: &[u8]) {
    let (kind, json) = first(input);
    let secret = Secret::new(CANARY.as_bytes().to_vec());
    if let Some(message) = error_message(json, &secret) {
        assert!(message.len() <= MESSAGE_MAX && !message.chars().any(char::is_control), "{message:?}");
        assert!(!message.contains(CANARY), "the key is in {message:?}");
    }
    let Some(shape) = any_shape(kind, json) else { return };
    match &shape {
        AnyShape::Cluster(cluster) => {
            assert!(!cluster.id.is_empty() && !cluster.name.is_empty());
            assert!(cluster.regions.iter().all(|region| !region.name.is_empty()));
            let _ = cluster.expects_restarts();
        }
        AnyShape::Allowed(network) => {
            if let Some(cidr) = network.cidr() {
                assert!(cidr.mask <= 32 && cidr.contains(cidr.first()), "{cidr}");
                assert_eq!(cidr.to_string().parse().ok(), Some(cidr));
            }
            let _ = network.contains(Ipv4Addr::new(203, 0, 113, 7));
        }
        AnyShape::Parameters(parameters) => {
            // Nothing of an answer is taken for a connection string that is none.
            let read = parameters.connection_string.as_deref().map(crate::settings::url::parse);
            assert!(read.is_none_or(|read| read.is_ok_and(|string| !string.host.is_empty()) || kind < 255));
        }
        AnyShape::Node(_)
        | AnyShape::User(_)
        | AnyShape::Database(_)
        | AnyShape::Service(_)
        | AnyShape::Connection(_) => {}
    }
    let told = shape.to_json();
    assert!(told.len() <= 6 * json.len() + SHAPE_MAX, "{} bytes out of {}", told.len(), json.len());
    assert_eq!(any_shape(kind, json).map(|again| again.to_json()), Some(told), "not the same twice");
}

/// Cut, and one sign for the rest.
const MESSAGE_MAX: usize = 4 * 1000;
/// The names of all fields.
const SHAPE_MAX: usize = 400;
