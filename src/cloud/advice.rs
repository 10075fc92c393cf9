//! What to do next, in sentences: pure, from what the API says. Whatever a sentence repeats of it is printable.

mod allowlist;
mod cluster;
mod endpoint_id;
mod private;

pub use self::{
    allowlist::{allowlist_limit, allowlist_warnings, entry_warnings, refused_range},
    cluster::remarks,
    endpoint_id::wrong_endpoint_id,
    private::{connection_advice, service_advice, service_term},
};
