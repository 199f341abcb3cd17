//! Landlock: which files may be read and written, and which port may be connected to (landlock(7)).

use std::io;

use landlock::{
    ABI, Access, AccessFs, AccessNet, BitFlags, CompatLevel, Compatible, NetPort, Ruleset, RulesetAttr,
    RulesetCreatedAttr, RulesetError, RulesetStatus, Scope, make_bitflags, path_beneath_rules,
};

use super::{Strictness, confine::Files};

/// The newest that is known here; what the kernel lacks of it is left out.
const ABI: ABI = ABI::V10;

/// Programs, libraries and what these look up. Nothing of it says who lives here.
const SYSTEM: [&str; 20] = [
    "/usr",
    "/bin",
    "/sbin",
    "/lib",
    "/lib32",
    "/lib64",
    "/nix/store",
    "/etc/ssl",
    "/etc/pki",
    "/etc/ca-certificates",
    "/etc/alternatives",
    "/etc/ld.so.cache",
    "/etc/ld.so.conf",
    "/etc/ld.so.conf.d",
    "/etc/localtime",
    "/etc/mime.types",
    "/etc/nsswitch.conf",
    "/etc/hosts",
    "/sys/devices/system/cpu",
    // This process; those of others are as closed as they would be to another user.
    "/proc/self",
];
const DEVICES: [&str; 5] = ["/dev/null", "/dev/zero", "/dev/full", "/dev/random", "/dev/urandom"];

/// Whose network the process is in; with one of its own come processes of its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Network {
    /// One of its own, where there is nothing to be kept from.
    Own,
    /// This machine's, as its processes are, too. Ports can be closed there since Linux 6.7 only, the way of signals since 6.12.
    Shared,
}

/// Holds for this process and all that it starts.
///
/// # Errors
/// Where the kernel has no Landlock, or too little of it, and the sandbox must be whole.
pub(super) fn restrict(files: &Files, network: Network) -> io::Result<()> {
    let status = apply(files, network).map_err(|error| io::Error::other(format!("Landlock: {error}")))?;
    match (status, files.strictness) {
        (RulesetStatus::NotEnforced, Strictness::Whole) => {
            Err(io::Error::new(io::ErrorKind::Unsupported, "Landlock: this kernel has none, or it is switched off"))
        }
        _ => Ok(()),
    }
}

fn apply(files: &Files, network: Network) -> Result<RulesetStatus, RulesetError> {
    let read = AccessFs::from_read(ABI);
    // A download is data: it is never run, and no other kind of file than these is ever needed. Above all no symbolic link, which
    // the worker could follow to where the child cannot go itself.
    let write: BitFlags<AccessFs> = AccessFs::from_all(ABI)
        & !make_bitflags!(AccessFs::{Execute | MakeChar | MakeBlock | MakeSock | MakeFifo | MakeSym | IoctlDev});
    let devices = make_bitflags!(AccessFs::{ReadFile | WriteFile});
    // Where no namespace does it: ports, and signals to whom they like.
    let alone = match (network, files.strictness) {
        (Network::Shared, Strictness::Whole) => CompatLevel::HardRequirement,
        _ => CompatLevel::BestEffort,
    };
    let mut ruleset = Ruleset::default()
        .handle_access(AccessFs::from_all(ABI))?
        .set_compatibility(alone)
        .handle_access(AccessNet::from_all(ABI::V4))?
        .scope(Scope::from_all(ABI))?
        .set_compatibility(CompatLevel::BestEffort)
        .create()?
        .add_rules(path_beneath_rules(SYSTEM, read))?
        .add_rules(path_beneath_rules(&files.read, read))?
        .add_rules(path_beneath_rules(DEVICES, devices))?
        .add_rules(path_beneath_rules([&files.write], write))?;
    if let Some(port) = files.connect {
        ruleset = ruleset.add_rule(NetPort::new(port, AccessNet::ConnectTcp))?;
    }
    Ok(ruleset.restrict_self()?.ruleset)
}
