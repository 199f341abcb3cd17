//! Forbids system calls with seccomp: all sockets except TCP, which Landlock and the namespaces restrict, and calls that are only
//! useful for escaping from the sandbox.

use std::{collections::BTreeMap, env::consts::ARCH, io};

use libc::{c_int, c_long};
#[cfg(target_arch = "x86_64")]
use seccompiler::sock_filter;
use seccompiler::{
    BackendError, BpfProgram, SeccompAction, SeccompCmpArgLen, SeccompCmpOp, SeccompCondition, SeccompFilter,
    SeccompRule, apply_filter,
};
use thiserror::Error;

use super::confinement::Network;

/// Calls that concern other processes, namespaces, mounts, keys, and kernel interfaces with a history of vulnerabilities; and calls
/// that Landlock permits for any file of the account: changing modes, owners, attributes and times, and watching for changes.
const FORBIDDEN: [c_long; 61] = [
    libc::SYS_ptrace,
    libc::SYS_rt_sigqueueinfo,
    libc::SYS_rt_tgsigqueueinfo,
    libc::SYS_pidfd_send_signal,
    libc::SYS_process_vm_readv,
    libc::SYS_process_vm_writev,
    libc::SYS_process_madvise,
    libc::SYS_pidfd_getfd,
    libc::SYS_kcmp,
    libc::SYS_unshare,
    libc::SYS_setns,
    libc::SYS_mount,
    libc::SYS_umount2,
    libc::SYS_move_mount,
    libc::SYS_mount_setattr,
    libc::SYS_open_tree,
    libc::SYS_fsopen,
    libc::SYS_fsconfig,
    libc::SYS_fspick,
    libc::SYS_fsmount,
    libc::SYS_pivot_root,
    libc::SYS_chroot,
    libc::SYS_keyctl,
    libc::SYS_add_key,
    libc::SYS_request_key,
    libc::SYS_bpf,
    libc::SYS_perf_event_open,
    libc::SYS_userfaultfd,
    libc::SYS_io_uring_setup,
    libc::SYS_fanotify_init,
    libc::SYS_name_to_handle_at,
    libc::SYS_open_by_handle_at,
    libc::SYS_init_module,
    libc::SYS_finit_module,
    libc::SYS_delete_module,
    libc::SYS_kexec_load,
    libc::SYS_quotactl,
    libc::SYS_swapon,
    libc::SYS_acct,
    libc::SYS_personality,
    libc::SYS_settimeofday,
    libc::SYS_reboot,
    libc::SYS_fchmod,
    libc::SYS_fchmodat,
    FCHMODAT2,
    libc::SYS_fchown,
    libc::SYS_fchownat,
    libc::SYS_setxattr,
    libc::SYS_lsetxattr,
    libc::SYS_fsetxattr,
    SETXATTRAT,
    libc::SYS_removexattr,
    libc::SYS_lremovexattr,
    FILE_SETATTR,
    libc::SYS_utimensat,
    libc::SYS_inotify_add_watch,
    // IPC objects, which outlive their processes unless an IPC namespace ends with them.
    libc::SYS_shmget,
    libc::SYS_semget,
    libc::SYS_msgget,
    libc::SYS_mq_open,
    // No incoming connections.
    libc::SYS_listen,
];

/// Call numbers that libc does not define yet; they are the same on every architecture.
const FCHMODAT2: c_long = 452;
const SETXATTRAT: c_long = 463;
const FILE_SETATTR: c_long = 469;

/// Older variants of forbidden calls, which newer architectures do not have.
#[cfg(target_arch = "x86_64")]
const FORBIDDEN_OF_OLD: [c_long; 6] =
    [libc::SYS_chmod, libc::SYS_chown, libc::SYS_lchown, libc::SYS_utime, libc::SYS_utimes, libc::SYS_futimesat];
#[cfg(not(target_arch = "x86_64"))]
const FORBIDDEN_OF_OLD: [c_long; 0] = [];

/// Calls on the process that the first argument names; 0 is the caller. Without a PID namespace, other processes are those of the
/// account: the reaper, the worker, and the jobs of other users. A filter cannot tell which process an id belongs to.
const OF_A_PROCESS: [c_long; 7] = [
    libc::SYS_prlimit64,
    libc::SYS_sched_setscheduler,
    libc::SYS_sched_setparam,
    libc::SYS_sched_setattr,
    libc::SYS_sched_setaffinity,
    libc::SYS_migrate_pages,
    libc::SYS_move_pages,
];

/// Calls whose first argument is the kind of target that the second one names, with the value that means a process (ioprio_set(2),
/// setpriority(2)).
const OF_A_KIND: [(c_long, c_int); 2] = [(libc::SYS_setpriority, 0), (libc::SYS_ioprio_set, 1)];

/// The sign bit. A negative id names a group or all processes (kill(2)).
const NEGATIVE: c_int = c_int::MIN;

/// The flags that create namespaces.
const NAMESPACES: [c_int; 7] = [
    libc::CLONE_NEWUSER,
    libc::CLONE_NEWNET,
    libc::CLONE_NEWNS,
    libc::CLONE_NEWPID,
    libc::CLONE_NEWIPC,
    libc::CLONE_NEWUTS,
    libc::CLONE_NEWCGROUP,
];

/// Flags that may accompany the type of a socket.
const SOCKET_FLAGS: c_int = libc::SOCK_CLOEXEC | libc::SOCK_NONBLOCK;

/// `TCP_FASTOPEN_CONNECT` (tcp(7)).
const TCP_FASTOPEN_CONNECT: c_int = 30;

/// Kills a process that makes an x32 call. These look like the native architecture but have other numbers, all with this bit set
/// (seccomp(2)). The program loads the call number, the first field that a filter sees, tests the bit, and kills or allows.
#[cfg(target_arch = "x86_64")]
const WITHOUT_X32: [sock_filter; 4] = [
    instruction(libc::BPF_LD | libc::BPF_W | libc::BPF_ABS, 0, 0),
    instruction(libc::BPF_JMP | libc::BPF_JSET | libc::BPF_K, 0x4000_0000, 1),
    instruction(libc::BPF_RET | libc::BPF_K, libc::SECCOMP_RET_KILL_PROCESS, 0),
    instruction(libc::BPF_RET | libc::BPF_K, libc::SECCOMP_RET_ALLOW, 0),
];

/// The conditions under which a call is refused, by call number.
type Rules = BTreeMap<c_long, Vec<SeccompRule>>;

#[derive(Debug, Error)]
enum SyscallsError {
    #[error(transparent)]
    Filter(#[from] BackendError),
    #[error(transparent)]
    Apply(#[from] seccompiler::Error),
}

/// Restricts this process and all its future children. Forbidden calls fail as for a lack of permission.
pub(super) fn restrict(network: Network) -> io::Result<()> {
    apply(network).map_err(|error| io::Error::other(format!("seccomp: {error}")))
}

fn apply(network: Network) -> Result<(), SyscallsError> {
    #[cfg(target_arch = "x86_64")]
    apply_filter(&WITHOUT_X32)?;
    let mut rules: Rules = FORBIDDEN.iter().chain(&FORBIDDEN_OF_OLD).map(|number| (*number, Vec::new())).collect();
    add_sockets(&mut rules)?;
    add_processes(&mut rules, network)?;
    install(rules, libc::EPERM)?;
    // The arguments of clone3 are behind a pointer, which a filter cannot follow. Without it, libraries fall back to clone.
    install(Rules::from([(libc::SYS_clone3, Vec::new())]), libc::ENOSYS)
}

fn add_sockets(rules: &mut Rules) -> Result<(), BackendError> {
    // Only TCP over IP: no socket type that the port rules do not cover, and no data before the connection is made.
    let kind = !SOCKET_FLAGS.cast_unsigned();
    rules.insert(
        libc::SYS_socket,
        vec![
            when(&[is_not(0, libc::AF_INET)?, is_not(0, libc::AF_INET6)?])?,
            when(&[condition(1, SeccompCmpOp::MaskedEq(u64::from(kind)), libc::SOCK_DGRAM)?])?,
            when(&[condition(1, SeccompCmpOp::MaskedEq(u64::from(kind)), libc::SOCK_RAW)?])?,
            when(&[condition(1, SeccompCmpOp::MaskedEq(u64::from(kind)), libc::SOCK_SEQPACKET)?])?,
            when(&[is_not(2, 0)?, is_not(2, libc::IPPROTO_TCP)?])?,
        ],
    );
    for (number, flags) in [(libc::SYS_sendto, 3), (libc::SYS_sendmsg, 2), (libc::SYS_sendmmsg, 3)] {
        rules.insert(number, vec![when(&[has(flags, libc::MSG_FASTOPEN)?])?]);
    }
    let fast = when(&[is(1, libc::IPPROTO_TCP)?, is(2, TCP_FASTOPEN_CONNECT)?])?;
    rules.insert(libc::SYS_setsockopt, vec![fast]);
    Ok(())
}

fn add_processes(rules: &mut Rules, network: Network) -> Result<(), BackendError> {
    for number in OF_A_PROCESS {
        rules.insert(number, vec![when(&[is_not(0, 0)?])?]);
    }
    for (number, process) in OF_A_KIND {
        rules.insert(number, vec![when(&[is_not(0, process)?])?, when(&[is_not(1, 0)?])?]);
    }
    if network == Network::Shared {
        // Landlock restricts the rest: it knows which processes are in the sandbox.
        rules.insert(libc::SYS_kill, vec![when(&[has(0, NEGATIVE)?])?]);
    }
    // The process cannot undo that it dies with its parent.
    rules.insert(libc::SYS_prctl, vec![when(&[is(0, libc::PR_SET_PDEATHSIG)?])?]);
    let new: Result<Vec<_>, _> = NAMESPACES.iter().map(|flag| when(&[has(0, *flag)?])).collect();
    rules.insert(libc::SYS_clone, new?);
    Ok(())
}

/// `otherwise` is the number of instructions to skip if a test fails.
#[cfg(target_arch = "x86_64")]
#[expect(clippy::cast_possible_truncation, reason = "instruction codes are below 256")]
const fn instruction(code: u32, k: u32, otherwise: u8) -> sock_filter {
    sock_filter { code: code as u16, jt: 0, jf: otherwise, k }
}

fn install(rules: Rules, refusal: c_int) -> Result<(), SyscallsError> {
    let refused = SeccompAction::Errno(refusal.cast_unsigned());
    let filter = SeccompFilter::new(rules, SeccompAction::Allow, refused, ARCH.try_into()?)?;
    Ok(apply_filter(&BpfProgram::try_from(filter)?)?)
}

/// A rule that matches if all of these conditions hold.
fn when(conditions: &[SeccompCondition]) -> Result<SeccompRule, BackendError> {
    SeccompRule::new(conditions.to_vec())
}

fn is(argument: u8, value: c_int) -> Result<SeccompCondition, BackendError> {
    condition(argument, SeccompCmpOp::Eq, value)
}

fn is_not(argument: u8, value: c_int) -> Result<SeccompCondition, BackendError> {
    condition(argument, SeccompCmpOp::Ne, value)
}

fn has(argument: u8, flag: c_int) -> Result<SeccompCondition, BackendError> {
    condition(argument, SeccompCmpOp::MaskedEq(u64::from(flag.cast_unsigned())), flag)
}

fn condition(argument: u8, comparison: SeccompCmpOp, value: c_int) -> Result<SeccompCondition, BackendError> {
    SeccompCondition::new(argument, SeccompCmpArgLen::Dword, comparison, u64::from(value.cast_unsigned()))
}
