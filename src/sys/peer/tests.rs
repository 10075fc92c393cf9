//! Users of peers: sockets of this machine, and of networks of its own.

use super::{network::Network, *};
use rustix::{
    io::Errno,
    thread::{LinkNameSpaceType, move_into_link_name_space},
};
use socket2::{Domain, SockFilter, Socket, Type};
use std::{
    fs::File,
    io::{BufRead, BufReader},
    net::{TcpListener, TcpStream},
    os::fd::AsFd,
    process::{Command, Stdio},
    thread,
    time::Instant,
};

/// A connection over this address, if the machine has it.
fn connection(listen: &str, dial: &str) -> Option<(TcpStream, TcpStream)> {
    let Ok(listener) = TcpListener::bind(listen) else {
        println!("skipped: {listen}, which this machine does not have");
        return None;
    };
    let client = TcpStream::connect((dial, listener.local_addr().unwrap().port())).unwrap();
    Some((client, listener.accept().unwrap().0))
}

/// Of both ways to ask; a way that is forbidden here is left out.
fn both_ways(served: &TcpStream) -> Vec<Option<u32>> {
    let ends = Ends::of(served.as_fd()).unwrap().unwrap();
    let by_netlink = netlink::Diagnostics::default()
        .look_up(&ends)
        .inspect_err(|error| println!("skipped: socket diagnostics: {error}"));
    let ways = [by_netlink.ok(), table::look_up(&ends).ok()];
    ways.into_iter().flatten().map(|seen| seen.owner().expect("our own end")).collect()
}

#[tokio::test]
async fn both_ways_to_ask_agree_until_the_peer_has_gone() {
    let own = rustix::process::geteuid().as_raw();
    for (listen, dial) in [("127.0.0.1:0", "127.0.0.1"), ("[::1]:0", "::1"), ("[::]:0", "127.0.0.1")] {
        let Some((client, served)) = connection(listen, dial) else { continue };
        let uids = PeerUids::new();

        let ways = both_ways(&served);
        assert!(!ways.is_empty() && ways.iter().all(|found| *found == Some(own)), "{listen}: {ways:?}");
        // The first question and those behind it go different ways.
        for _ in 0..2 {
            assert_eq!(uids.of_tcp(served.as_fd()).await.unwrap(), Some(own), "{listen}");
        }

        drop(client);
        let ways = both_ways(&served);
        assert!(ways.iter().all(Option::is_none), "{listen}: {ways:?}");
        assert_eq!(uids.of_tcp(served.as_fd()).await.unwrap(), None, "{listen}");
    }
}

/// A socket whose port others may have, too.
fn tcp() -> Socket {
    let socket = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
    socket.set_reuse_address(true).unwrap();
    socket
}

#[tokio::test]
async fn a_socket_that_only_tries_to_connect_is_not_taken_for_the_peer() {
    let own = rustix::process::geteuid().as_raw();
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap().into();
    let (client, trying) = (tcp(), tcp());
    client.bind_device(Some(b"lo")).unwrap();
    let expected = if own == 0 { 41_001 } else { own };
    if own == 0 {
        // A socket belongs to whom its file does.
        rustix::fs::fchown(&client, Some(rustix::fs::Uid::from_raw(expected)), None).unwrap();
    } else {
        println!("skipped: only root can have sockets of two users");
    }
    client.bind(&"127.0.0.1:0".parse::<SocketAddr>().unwrap().into()).unwrap();
    client.connect(&address).unwrap();
    let served = listener.accept().unwrap().0;
    // It hears nothing any more, so that the other one gets no answer and stays as it is.
    SockRef::from(&served).attach_filter(&[SockFilter::new(6, 0, 0, 0)]).unwrap();
    trying.bind(&client.local_addr().unwrap()).unwrap();
    trying.set_nonblocking(true).unwrap();
    assert_eq!(trying.connect(&address).unwrap_err().raw_os_error(), Some(libc::EINPROGRESS));
    assert_eq!(trying.local_addr().unwrap().as_socket(), served.peer_addr().ok());

    let ways = both_ways(&served);
    // Diagnostics may show the other one alone; then it is nobody's.
    let is_right = |found: &Option<u32>| found.is_none_or(|uid| uid == expected);
    assert!(ways.iter().all(is_right) && ways.last() == Some(&Some(expected)), "{ways:?}");
    let uids = PeerUids::new();
    for _ in 0..2 {
        assert!(is_right(&uids.of_tcp(served.as_fd()).await.unwrap()));
    }

    // It is nobody's once the client has gone, though the other is there still.
    drop(client);
    let ways = both_ways(&served);
    assert!(ways.iter().all(Option::is_none), "{ways:?}");
}

#[test]
fn a_client_that_is_bound_to_the_loopback_interface_is_told_like_any_other() {
    let own = rustix::process::geteuid().as_raw();
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let client = tcp();
    client.bind_device(Some(b"lo")).unwrap();
    client.connect(&listener.local_addr().unwrap().into()).unwrap();

    let ways = both_ways(&listener.accept().unwrap().0);

    assert!(!ways.is_empty() && ways.iter().all(|found| *found == Some(own)), "{ways:?}");
}

#[test]
fn of_two_sockets_at_the_other_end_that_are_not_one_users_none_counts() {
    let owner = |entries: &[(u32, u64)]| {
        let mut seen = Seen { is_ours: true, peers: None };
        entries.iter().for_each(|&(uid, inode)| seen.add_peers(Entry { uid, inode }));
        seen.owner().unwrap()
    };

    assert_eq!((owner(&[(5, 8)]), owner(&[(5, 8), (5, 9)])), (Some(5), Some(5)));
    for odd in [&[(5, 8), (6, 9)][..], &[(5, 8), (6, 9), (6, 9)], &[(5, 8), (0, 0)], &[(0, 0), (0, 8)]] {
        assert_eq!(owner(odd), None, "{odd:?}");
    }
}

#[test]
fn only_states_after_the_handshake_tell_of_a_peer() {
    let good: Vec<u8> = (0..=u8::MAX).filter(|state| is_past_handshake(*state)).collect();

    assert_eq!(good, [1, 4, 5, 8, 9, 11]);
}

#[test]
fn a_socket_that_listens_where_the_peer_was_is_not_taken_for_it() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let elsewhere = TcpListener::bind("127.0.0.1:0").unwrap();
    let ends = Ends {
        own: listener.local_addr().unwrap(),
        peer: elsewhere.local_addr().unwrap(),
        inode: rustix::fs::fstat(&listener).unwrap().st_ino,
        network: None,
    };

    for seen in [netlink::Diagnostics::default().look_up(&ends).ok(), table::look_up(&ends).ok()].into_iter().flatten()
    {
        assert!(!seen.is_ours && seen.peers.is_none(), "{seen:?}");
    }
}

/// This thread, and the sockets that it opens, go to a new network that has a loopback interface; `false` where that
/// may not be done.
fn go_elsewhere() -> bool {
    let mut unshare = Command::new("unshare");
    unshare.args(["--net", "sh", "-ec", "ip link set lo up; echo ready; cat"]);
    let mut unshare = unshare.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::null()).spawn().unwrap();
    let mut said = String::new();
    BufReader::new(unshare.stdout.take().unwrap()).read_line(&mut said).unwrap();
    let can = said == "ready\n";
    if can {
        let network = File::open(format!("/proc/{}/ns/net", unshare.id())).unwrap();
        move_into_link_name_space(network.as_fd(), Some(LinkNameSpaceType::Network)).unwrap();
    } else {
        println!("skipped: only root can have a network of its own, and only with `ip`");
    }
    // It waits for no more input, and ends.
    drop(unshare.stdin.take());
    unshare.wait().unwrap();
    can
}

#[tokio::test]
async fn a_connection_of_another_network_is_not_judged_by_this_one() {
    // Somebody here has the same two addresses; made first, since there all are free.
    let (here, twin) = connection("127.0.0.1:0", "127.0.0.1").unwrap();
    let (from, to) = (here.local_addr().unwrap(), twin.local_addr().unwrap());
    let elsewhere = move || {
        go_elsewhere().then(|| {
            let (listener, client) = (TcpListener::bind(to).unwrap(), tcp());
            client.bind(&from.into()).unwrap();
            client.connect(&to.into()).unwrap();
            (client, listener.accept().unwrap().0)
        })
    };
    let Some((_client, served)) = thread::spawn(elsewhere).join().unwrap() else { return };
    let known = Ends::of(served.as_fd()).unwrap().unwrap();
    assert_eq!((known.peer, known.own), (from, to));

    for ends in [known, Ends { network: None, ..known }] {
        assert_eq!(by_netlink(&ends).flatten(), None);
        assert_eq!(table::look_up(&ends).unwrap().owner(), None);
    }
    let uids = PeerUids::new();
    let refused = uids.of_tcp(served.as_fd()).await.unwrap_err();
    assert!(refused.to_string().contains("another network"), "{refused}");
    // That says nothing against asking for others.
    if by_netlink(&known).is_some() {
        assert_eq!(uids.diagnostics_from.load(Relaxed), 0);
    }
}

/// The owner by diagnostics, where they may be asked.
#[expect(clippy::option_option, reason = "not knowing and knowing that there is none are two things")]
fn by_netlink(ends: &Ends) -> Option<Option<Option<u32>>> {
    let seen = netlink::Diagnostics::default().look_up(ends);
    Some(seen.inspect_err(|error| println!("skipped: socket diagnostics: {error}")).ok()?.owner())
}

#[test]
fn our_end_is_known_by_its_network_or_where_networks_have_no_numbers_by_itself() {
    let (_client, served) = connection("127.0.0.1:0", "127.0.0.1").unwrap();
    let known = Ends::of(served.as_fd()).unwrap().unwrap();
    let Some(own) = by_netlink(&known) else { return };
    assert_eq!(own, Some(Some(rustix::process::geteuid().as_raw())));

    assert_eq!(by_netlink(&Ends { network: None, ..known }), Some(own));
    // Another socket than ours has these addresses.
    assert_eq!(by_netlink(&Ends { network: None, inode: known.inode + 1, ..known }), Some(None));
    match known.network {
        Some(Network(number)) => {
            let elsewhere = Ends { network: Some(Network(number + 1)), ..known };
            assert_eq!(by_netlink(&elsewhere), Some(None));
        }
        None => println!("skipped: this kernel gives networks no numbers"),
    }
}

#[tokio::test]
async fn what_is_forbidden_is_not_tried_for_every_client() {
    let (_client, served) = connection("127.0.0.1:0", "127.0.0.1").unwrap();
    let uids = PeerUids::new();
    let later = milliseconds() + TRY_AGAIN;
    uids.diagnostics_from.store(later, Relaxed);

    assert_eq!(uids.of_tcp(served.as_fd()).await.unwrap(), Some(rustix::process::geteuid().as_raw()));

    assert_eq!(uids.diagnostics_from.load(Relaxed), later);
}

#[test]
fn a_lack_of_descriptors_is_no_ban() {
    let after = |failure: Option<Errno>| may_ask_from(failure.map(Into::into).as_ref(), 7);

    assert_eq!(after(None), Some(0));
    assert_eq!(after(Some(Errno::PERM)), Some(7 + TRY_AGAIN));
    for shortage in [Errno::MFILE, Errno::NFILE, Errno::NOBUFS] {
        assert_eq!(after(Some(shortage)), None);
    }
}

#[test]
#[ignore = "a measurement; run it in release with --no-capture"]
fn how_long_a_look_up_takes_among_ten_thousand_sockets() {
    crate::sys::raise_descriptor_limit();
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let open: Vec<_> =
        (0..5000).map_while(|_| Some((TcpStream::connect(address).ok()?, listener.accept().ok()?.0))).collect();
    println!("sockets open: {}", open.len() * 2);
    let all: Vec<_> = open.iter().map(|(_, served)| Ends::of(served.as_fd()).unwrap().unwrap()).collect();
    let measure = |name: &str, look_up: &dyn Fn(&Ends) -> io::Result<Seen>, count: usize| {
        let mut times: Vec<_> = all
            .iter()
            .rev()
            .step_by(all.len() / count)
            .map(|ends| {
                let began = Instant::now();
                look_up(ends).unwrap().owner().unwrap();
                began.elapsed()
            })
            .collect();
        times.sort();
        println!("{name}: median {:?}, 99 % {:?}", times[times.len() / 2], times[times.len() * 99 / 100]);
    };
    let diagnostics = netlink::Diagnostics::default();
    measure("netlink", &|ends| diagnostics.look_up(ends), 5000);
    measure("/proc", &table::look_up, 100);
}
