//! The daemon's binary between real clients and real or scripted clusters, one module per behaviour.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::print_stdout,
    clippy::cast_possible_truncation,
    reason = "a test fails by panicking; clippy.toml's exceptions reach only functions marked #[test]"
)]

mod admin;
mod black_hole;
mod bulk;
mod by_hand;
mod ca_fetch;
mod cancel;
mod certificates_matrix;
mod changes;
mod check;
mod client_password;
mod cloud;
mod cloud_commands;
mod commands;
mod config;
mod connect;
#[cfg(feature = "demo")]
mod demo;
mod deploy;
mod discovery;
mod docs;
mod drivers;
mod exec;
mod facts;
mod failover;
mod harness;
mod harness_works;
mod hostile_clients;
mod hostile_servers;
mod hostile_tls;
mod hunt;
mod image;
mod late_readers;
mod layout;
mod limits;
mod local_access;
mod local_tls;
mod login;
mod logs;
mod names;
mod nearest;
mod notify;
mod openings;
mod overflow;
mod package;
mod page;
mod pages;
mod password;
mod private_memory;
mod probes;
mod programs;
#[cfg(feature = "demo")]
mod readme;
mod refusals;
mod regions;
mod relay;
mod reload;
mod require_auth;
mod restart;
mod reuse;
mod rotation;
mod secrets;
mod service;
mod setup;
mod sockets;
mod squatter;
mod start;
mod startup;
mod startup_parameters;
mod status;
mod status_schema;
mod stop;
mod threat_model;
mod trusted_files;
mod units;
mod unix_socket;
mod url_formats;
mod urls;
mod users;
mod warm;
