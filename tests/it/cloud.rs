//! The client of the Cloud API, against an API of the tests' own: what it reads, what it sends, and what it says
//! when there is no answer.

mod answers;
mod dependencies;
mod faults;
mod lies;
mod way;

use crate::harness::cloud_api::{CloudApi, KEY};
use crdb_proxy::{
    cloud::{Cloud, CloudError, Limits, Server},
    secret::Secret,
};
use std::time::Duration;

/// A client with a key that has every right, and little patience between two tries.
fn client(api: &CloudApi) -> Cloud {
    client_of(&api.url(), Some(KEY))
}

fn client_of(url: &str, key: Option<&str>) -> Cloud {
    let key = key.map(|key| Secret::new(key.as_bytes().to_vec()));
    Cloud::with_limits(Server::new(url).unwrap(), key, limits()).unwrap()
}

fn limits() -> Limits {
    Limits { retry_pause: Duration::from_millis(1), ..Limits::default() }
}

fn wait<T>(work: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(work)
}

/// The error's sentence; the key is in none.
#[track_caller]
fn sentence<T>(answer: Result<T, CloudError>) -> String {
    let Err(error) = answer else { panic!("there was an answer") };
    let (text, debug) = (error.to_string(), format!("{error:?}"));
    assert!(!text.contains("secret") && !debug.contains("secret"), "{text}\n{debug}");
    text
}
