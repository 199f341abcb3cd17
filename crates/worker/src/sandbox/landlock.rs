//! Landlock: restricts which files can be read and written, and which port can be connected to (landlock(7)).

use std::io;

use landlock::{
    ABI, Access, AccessFs, AccessNet, BitFlags, CompatLevel, Compatible, NetPort, Ruleset, RulesetAttr,
    RulesetCreatedAttr, RulesetError, RulesetStatus, Scope, make_bitflags, path_beneath_rules,
};

use super::{
    Strictness,
    confinement::{Files, Network},
};

/// The newest version that this program knows. Features that the kernel lacks are left out.
const ABI: ABI = ABI::V10;

/// Programs, libraries and the files they look up. None of these reveals who uses this machine.
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
    // This process only; those of others are as inaccessible as to another user.
    "/proc/self",
];
const DEVICES: [&str; 5] = ["/dev/null", "/dev/zero", "/dev/full", "/dev/random", "/dev/urandom"];

/// Restricts this process and all its future children.
///
/// # Errors
/// Fails if the sandbox must be whole and the kernel has no Landlock, or an older version than needed.
pub(super) fn restrict(files: &Files, network: Network) -> io::Result<()> {
    let status = apply(files, network).map_err(|error| io::Error::other(format!("Landlock: {error}")))?;
    match (status, files.strictness) {
        (RulesetStatus::NotEnforced, Strictness::Whole) => {
            Err(io::Error::new(io::ErrorKind::Unsupported, "Landlock: this kernel lacks it, or it is disabled"))
        }
        _ => Ok(()),
    }
}

fn apply(files: &Files, network: Network) -> Result<RulesetStatus, RulesetError> {
    let read = AccessFs::from_read(ABI);
    // A download is data: it is never executed, and needs only regular files and folders. Symbolic links above all are forbidden: the
    // worker could follow one to files that the child itself cannot access.
    let write: BitFlags<AccessFs> = AccessFs::from_all(ABI)
        & !make_bitflags!(AccessFs::{Execute | MakeChar | MakeBlock | MakeSock | MakeFifo | MakeSym | IoctlDev});
    let devices = make_bitflags!(AccessFs::{ReadFile | WriteFile});
    // Without namespaces, Landlock alone restricts ports and signals.
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
