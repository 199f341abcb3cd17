//! Namespaces: a network with nothing but loopback, and a process tree that ends with its first process.

use std::{fs, io};

use rustix::{
    io::Errno,
    net::{AddressFamily, RecvFlags, SendFlags, SocketFlags, SocketType, recv, send, socket_with},
    process::{getegid, geteuid},
    thread::UnshareFlags,
};

/// `RTM_NEWLINK` for interface 1, which in a new namespace is loopback: sets `IFF_UP` and requests an acknowledgement (rtnetlink(7)).
const RAISE_LOOPBACK: [[u8; 4]; 8] = [
    32_u32.to_ne_bytes(),
    pair(16, 0x1 | 0x4),
    1_u32.to_ne_bytes(),
    [0; 4],
    [0; 4],
    1_u32.to_ne_bytes(),
    1_u32.to_ne_bytes(),
    1_u32.to_ne_bytes(),
];

/// Moves this process into new user, network and IPC namespaces, and its future children into a new PID namespace.
///
/// # Errors
/// Fails if the system does not allow users to do that, as on some distributions, or if the process has several threads.
pub(super) fn enter() -> io::Result<()> {
    let user = geteuid().as_raw();
    let group = getegid().as_raw();
    unshare(UnshareFlags::NEWUSER | UnshareFlags::NEWNET | UnshareFlags::NEWIPC | UnshareFlags::NEWPID)?;
    // Maps the account to itself. The group can be mapped only after setgroups is denied (user_namespaces(7)).
    fs::write("/proc/self/setgroups", "deny")?;
    fs::write("/proc/self/uid_map", format!("{user} {user} 1"))?;
    fs::write("/proc/self/gid_map", format!("{group} {group} 1"))?;
    raise_loopback()
}

#[expect(deprecated, reason = "it is unsound only with UnshareFlags::FILES, which is never used here")]
fn unshare(flags: UnshareFlags) -> io::Result<()> {
    Ok(rustix::thread::unshare(flags)?)
}

fn raise_loopback() -> io::Result<()> {
    // rtnetlink is protocol 0, which is the same as passing none.
    let socket = socket_with(AddressFamily::NETLINK, SocketType::RAW, SocketFlags::CLOEXEC, None)?;
    send(&socket, RAISE_LOOPBACK.as_flattened(), SendFlags::empty())?;
    let mut reply = [0; 256];
    let (length, _) = recv(&socket, &mut reply[..], RecvFlags::empty())?;
    // The header is followed by the error code; 0 means success.
    let code = reply.get(..length).and_then(|reply| reply.get(16..20)).and_then(|code| code.try_into().ok());
    match code.map(i32::from_ne_bytes) {
        Some(0) => Ok(()),
        Some(code) => Err(Errno::from_raw_os_error(-code).into()),
        None => Err(io::ErrorKind::InvalidData.into()),
    }
}

const fn pair(first: u16, second: u16) -> [u8; 4] {
    let [a, b] = first.to_ne_bytes();
    let [c, d] = second.to_ne_bytes();
    [a, b, c, d]
}
