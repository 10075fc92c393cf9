//! One connection to the scripted server, from accept to login.

use super::{Cancel, Front, Login, Script, Seen, Session, Shared};
use crate::harness::{
    DEADLINE,
    certificates::Identity,
    scram::{Exchange, Flaw},
    wire::{self, CANCEL_CODE, Wire, error, message, parameter_status, ready},
};
use rustls::{
    HandshakeKind, RootCertStore, ServerConfig, ServerConnection, StreamOwned,
    pki_types::{CertificateDer, pem::PemObject},
    server::WebPkiClientVerifier,
};
use std::{
    io::{self, Read, Write},
    net::{Shutdown, TcpListener, TcpStream},
    sync::{Arc, mpsc},
    thread,
};

pub(super) fn accept(listener: &TcpListener, shared: &Arc<Shared>, sessions: &mpsc::Sender<Wire>) {
    for socket in listener.incoming() {
        if *shared.stopping.lock().unwrap() {
            return;
        }
        let (shared, sessions) = (Arc::clone(shared), sessions.clone());
        let mut number = 0;
        shared.note(|seen| {
            seen.connections += 1;
            number = seen.connections;
        });
        // An error means that the client has left, which is its right.
        thread::spawn(move || {
            socket.and_then(|socket| shared.serve(number, socket, &sessions)).ok();
            shared.note(|seen| seen.ended += 1);
        });
    }
}

impl Shared {
    pub(super) fn note(&self, change: impl FnOnce(&mut Seen)) {
        let mut seen = self.seen.lock().unwrap();
        change(&mut seen);
        let in_login = seen.connections.saturating_sub(seen.logged_in);
        seen.most_in_login = seen.most_in_login.max(in_login);
        drop(seen);
        self.changed.notify_all();
    }

    /// What the next connection meets.
    fn next_script(&self) -> Script {
        let mut script = self.script.lock().unwrap().clone();
        let (left, change) = &mut *self.next.lock().unwrap();
        if *left > 0 {
            *left -= 1;
            change(&mut script);
        }
        script
    }

    fn serve(&self, number: usize, mut socket: TcpStream, sessions: &mpsc::Sender<Wire>) -> io::Result<()> {
        socket.set_nodelay(true)?;
        let script = self.next_script();
        let mut request = [0; 8];
        socket.read_exact(&mut request)?;
        thread::sleep(script.front_delay);
        match script.front {
            Front::Closes => return Ok(()),
            Front::Resets => {
                Wire::new(socket).reset();
                return Ok(());
            }
            _ => {}
        }
        if request[4..] == CANCEL_CODE.to_be_bytes() {
            let length = u32::from_be_bytes([request[0], request[1], request[2], request[3]]);
            let mut key = vec![0; length as usize - 8];
            socket.read_exact(&mut key)?;
            self.note(|seen| seen.cancels.push(Cancel { key, over_tls: false }));
            return Ok(());
        }
        if request != wire::SSL_REQUEST {
            let refusal = error("FATAL", "08P01", "node is running secure mode, SSL connection required");
            return socket.write_all(&refusal);
        }
        match &script.front {
            Front::Tls => socket.write_all(b"S")?,
            Front::Says(bytes) => socket.write_all(bytes)?,
            Front::SilentInTls => socket.write_all(b"S")?,
            Front::Silent | Front::Closes | Front::Resets => {}
        }
        if script.front != Front::Tls {
            let mut rest = Vec::new();
            socket.set_read_timeout(Some(DEADLINE))?;
            socket.read_to_end(&mut rest).ok();
            self.note(|seen| seen.after_request.extend(rest));
            return Ok(());
        }
        let identity = script.identity.clone().unwrap_or_else(|| self.usual.clone());
        let wire = self.handshake(socket, &identity, script.client_authority.as_deref())?;
        self.log_in(number, wire, script, &identity, sessions)
    }

    fn handshake(
        &self,
        mut socket: TcpStream,
        identity: &Identity,
        client_authority: Option<&str>,
    ) -> io::Result<Wire> {
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let config = ServerConfig::builder_with_provider(Arc::clone(&provider));
        let config = config.with_safe_default_protocol_versions().unwrap();
        let config = match client_authority {
            Some(pem) => {
                let mut roots = RootCertStore::empty();
                roots.add(CertificateDer::from_pem_slice(pem.as_bytes()).unwrap()).unwrap();
                let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider);
                config.with_client_cert_verifier(verifier.build().unwrap())
            }
            None => config.with_no_client_auth(),
        };
        let mut config = config.with_single_cert(identity.chain(), identity.private_key()).unwrap();
        config.session_storage = Arc::clone(&self.tickets);
        let mut connection = ServerConnection::new(Arc::new(config)).unwrap();
        while connection.is_handshaking() {
            if let Err(error) = connection.complete_io(&mut socket) {
                // A close over unread bytes would be a reset, which may overtake the alert.
                socket.shutdown(Shutdown::Write)?;
                socket.set_read_timeout(Some(DEADLINE))?;
                socket.read_to_end(&mut Vec::new()).ok();
                return Err(error);
            }
        }
        let resumed = connection.handshake_kind() == Some(HandshakeKind::Resumed);
        self.note(|seen| {
            seen.server_names.push(connection.server_name().map(str::to_owned));
            seen.resumed += usize::from(resumed);
        });
        Ok(Wire::new(StreamOwned::new(connection, socket)))
    }

    fn log_in(
        &self,
        number: usize,
        mut wire: Wire,
        script: Script,
        identity: &Identity,
        sessions: &mpsc::Sender<Wire>,
    ) -> io::Result<()> {
        let (code, body) = wire.untyped()?;
        if code == CANCEL_CODE {
            self.note(|seen| seen.cancels.push(Cancel { key: body, over_tls: true }));
            return Ok(());
        }
        self.note(|seen| {
            seen.versions.push(code);
            seen.startups.push(body);
        });
        if !self.authenticate(&mut wire, &script.login, identity)? {
            return close_with(wire, &error("FATAL", "28P01", "password authentication failed for user app"));
        }
        thread::sleep(script.login_delay);
        if let Some(bytes) = script.instead_of_ok {
            return close_with(wire, &bytes);
        }
        wire.try_send(&message(b'R', &[0, 0, 0, 0]))?;
        if let Some(bytes) = script.instead_of_ready {
            return close_with(wire, &bytes);
        }
        if let Some((bytes, pause)) = script.endless {
            loop {
                wire.try_send(&bytes)?;
                thread::sleep(pause);
            }
        }
        // Before the client knows, so that it is never counted late.
        self.note(|seen| seen.logged_in += 1);
        // The client may open the next one as soon as it knows, and the test takes them in their order.
        let turn = matches!(script.session, Session::ByHand).then(|| self.handing_over.lock().unwrap());
        wire.try_send(&greeting(&script))?;
        match script.session {
            Session::ByHand => {
                sessions.send(wire).ok();
                drop(turn);
            }
            Session::Answers => return self.answer(number, wire),
            Session::Run(run) => {
                self.note(|seen| seen.open += 1);
                run(wire);
                self.note(|seen| seen.open -= 1);
            }
        }
        Ok(())
    }

    fn authenticate(&self, wire: &mut Wire, login: &Login, identity: &Identity) -> io::Result<bool> {
        let exchange = match login {
            Login::Cleartext(password) => {
                wire.try_send(&message(b'R', &[0, 0, 0, 3]))?;
                let sent = wire.next_message()?.body;
                let right = sent.strip_suffix(b"\0") == Some(password.as_bytes());
                self.note(|seen| seen.passwords.push(sent));
                return Ok(right);
            }
            Login::Scram { password, iterations, flaw } => {
                Exchange { password, iterations: *iterations, flaw: *flaw, plus: None }
            }
            Login::ScramPlus { password } => {
                Exchange { password, iterations: 4096, flaw: Flaw::None, plus: Some(identity.end_point_digest()) }
            }
            Login::Nothing => return Ok(true),
            Login::Asks(request) => {
                wire.try_send(request)?;
                let answer = wire.rest();
                self.note(|seen| seen.after_request.extend(answer));
                return Err(io::ErrorKind::ConnectionAborted.into());
            }
        };
        let outcome = exchange.serve(wire)?;
        self.note(|seen| seen.scram.push(outcome.chosen));
        Ok(outcome.proven)
    }
}

/// What a login ends with, to ReadyForQuery.
fn greeting(script: &Script) -> Vec<u8> {
    let mut greeting = parameter_status("server_version", "13.0.0");
    greeting.extend(parameter_status("client_encoding", "UTF8"));
    greeting.extend(parameter_status("crdb_version", "CockroachDB CCL v26.1.0"));
    greeting.extend(&script.before_key);
    greeting.extend(message(b'K', &script.key));
    greeting.extend(ready(b'I'));
    greeting
}

/// Sends bytes and closes so that they arrive.
pub(super) fn close_with(mut wire: Wire, bytes: &[u8]) -> io::Result<()> {
    wire.try_send(bytes)?;
    wire.half_close();
    wire.rest();
    Ok(())
}
