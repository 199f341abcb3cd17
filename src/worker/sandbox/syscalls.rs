//! What may not be asked of the kernel at all: sockets but for TCP, which the other walls see to, and what is of use only to
//! somebody who wants to get out.

use std::{collections::BTreeMap, env::consts::ARCH, io};

use libc::{c_int, c_long};
#[cfg(target_arch = "x86_64")]
use seccompiler::sock_filter;
use seccompiler::{
    BackendError, BpfProgram, SeccompAction, SeccompCmpArgLen, SeccompCmpOp, SeccompCondition, SeccompFilter,
    SeccompRule, apply_filter,
};
use thiserror::Error;

use super::landlock::Network;

/// Other processes, other namespaces, mounts, keys, and kernel interfaces with a history; and what Landlock lets pass for any file
/// of the account: modes, owners, attributes, times and news of them.
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
    // What stays in memory when its processes have ended, where no namespace of its own goes with them.
    libc::SYS_shmget,
    libc::SYS_semget,
    libc::SYS_msgget,
    libc::SYS_mq_open,
    // Nobody is to come in.
    libc::SYS_listen,
];

/// Numbers that libc does not name yet; they are the same on every architecture.
const FCHMODAT2: c_long = 452;
const SETXATTRAT: c_long = 463;
const FILE_SETATTR: c_long = 469;

/// What newer architectures have under other names only.
#[cfg(target_arch = "x86_64")]
const FORBIDDEN_OF_OLD: [c_long; 6] =
    [libc::SYS_chmod, libc::SYS_chown, libc::SYS_lchown, libc::SYS_utime, libc::SYS_utimes, libc::SYS_futimesat];
#[cfg(not(target_arch = "x86_64"))]
const FORBIDDEN_OF_OLD: [c_long; 0] = [];

/// What is set for the process that the first argument names, which is the caller for 0. Without a namespace of processes, the others
/// are the account's: the keeper, the worker, and other users' jobs. No filter can tell whose a number is.
const OF_A_PROCESS: [c_long; 7] = [
    libc::SYS_prlimit64,
    libc::SYS_sched_setscheduler,
    libc::SYS_sched_setparam,
    libc::SYS_sched_setattr,
    libc::SYS_sched_setaffinity,
    libc::SYS_migrate_pages,
    libc::SYS_move_pages,
];

/// Where the first argument says what the second one names, and the value of it for a process (ioprio_set(2), setpriority(2)).
const OF_A_KIND: [(c_long, c_int); 2] = [(libc::SYS_setpriority, 0), (libc::SYS_ioprio_set, 1)];

/// The lowest process id is 1; what is less is a group, or everybody (kill(2)).
const NEGATIVE: c_int = c_int::MIN;

/// By which namespaces are made.
const NAMESPACES: [c_int; 7] = [
    libc::CLONE_NEWUSER,
    libc::CLONE_NEWNET,
    libc::CLONE_NEWNS,
    libc::CLONE_NEWPID,
    libc::CLONE_NEWIPC,
    libc::CLONE_NEWUTS,
    libc::CLONE_NEWCGROUP,
];

/// What comes with the kind of a socket.
const SOCKET_FLAGS: c_int = libc::SOCK_CLOEXEC | libc::SOCK_NONBLOCK;

/// `TCP_FASTOPEN_CONNECT` (tcp(7)).
const TCP_FASTOPEN_CONNECT: c_int = 30;

/// Ends who calls by a number of x32, which has the architecture of the others and none of the numbers below: each of these has this bit
/// (seccomp(2)). Loads the number, which comes first of what a filter sees; tests the bit; ends or lets pass.
#[cfg(target_arch = "x86_64")]
const WITHOUT_X32: [sock_filter; 4] = [
    instruction(libc::BPF_LD | libc::BPF_W | libc::BPF_ABS, 0, 0),
    instruction(libc::BPF_JMP | libc::BPF_JSET | libc::BPF_K, 0x4000_0000, 1),
    instruction(libc::BPF_RET | libc::BPF_K, libc::SECCOMP_RET_KILL_PROCESS, 0),
    instruction(libc::BPF_RET | libc::BPF_K, libc::SECCOMP_RET_ALLOW, 0),
];

/// What is refused, by the number of the call.
type Rules = BTreeMap<c_long, Vec<SeccompRule>>;

#[derive(Debug, Error)]
enum SyscallsError {
    #[error(transparent)]
    Filter(#[from] BackendError),
    #[error(transparent)]
    Apply(#[from] seccompiler::Error),
}

/// Holds for this process and all that it starts; what is forbidden fails as it does for want of rights.
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
    // Its arguments are behind a pointer, where no filter sees them; without it libraries fall back to the one above.
    install(Rules::from([(libc::SYS_clone3, Vec::new())]), libc::ENOSYS)
}

fn add_sockets(rules: &mut Rules) -> Result<(), BackendError> {
    // TCP over IP and nothing else: no kind of socket that the rules for ports do not know, and nothing that is sent before it is
    // connected.
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
        // The rest is Landlock's, which knows whose a process is.
        rules.insert(libc::SYS_kill, vec![when(&[has(0, NEGATIVE)?])?]);
    }
    // It dies with its parent, whatever it wants.
    rules.insert(libc::SYS_prctl, vec![when(&[is(0, libc::PR_SET_PDEATHSIG)?])?]);
    let new: Result<Vec<_>, _> = NAMESPACES.iter().map(|flag| when(&[has(0, *flag)?])).collect();
    rules.insert(libc::SYS_clone, new?);
    Ok(())
}

/// `otherwise` is how many instructions are left out where a test is not passed.
#[cfg(target_arch = "x86_64")]
#[expect(clippy::cast_possible_truncation, reason = "codes of instructions are below 256")]
const fn instruction(code: u32, k: u32, otherwise: u8) -> sock_filter {
    sock_filter { code: code as u16, jt: 0, jf: otherwise, k }
}

fn install(rules: Rules, refusal: c_int) -> Result<(), SyscallsError> {
    let refused = SeccompAction::Errno(refusal.cast_unsigned());
    let filter = SeccompFilter::new(rules, SeccompAction::Allow, refused, ARCH.try_into()?)?;
    Ok(apply_filter(&BpfProgram::try_from(filter)?)?)
}

/// Where all of these hold.
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
