//! What must come before what, in every plan. Each rank says why in a word.

use capsid::plan::landlock::FenceStep;
use capsid::plan::{EnterStep, ExecStep, Plan, ProcessStep, RootStep};
use capsid::spec::namespaces::Kind;

use super::cases;

const SYS_ADMIN: u64 = 1 << 21;

/// CAP_CHOWN, CAP_DAC_OVERRIDE, CAP_SETGID, CAP_SETUID, CAP_SETPCAP; CAP_SYS_NICE.
const ON_THE_WAY: u64 = 1 | 1 << 1 | 1 << 6 | 1 << 7 | 1 << 8 | 1 << 23;

/// Steps of a lower rank come first; of the same rank, in any order.
fn in_order<S: std::fmt::Debug>(steps: &[S], rank: impl Fn(&S) -> u8) {
    for pair in steps.windows(2) {
        assert!(rank(&pair[0]) <= rank(&pair[1]), "{pair:#?}");
    }
}

fn count<S>(steps: &[S], is: impl Fn(&S) -> bool) -> usize {
    steps.iter().filter(|step| is(step)).count()
}

/// Every plan there is, with its name told when a check fails.
fn every_plan(mut check: impl FnMut(&Plan)) {
    let mut plans = 0;
    for case in cases() {
        if let Ok((_, plan, _)) = case.plan() {
            println!("{}:\n{plan}", case.name);
            check(&plan);
            plans += 1;
        }
    }
    assert!(plans >= 50, "{plans} plans");
}

/// What a process is given or gives up while it enters namespaces.
fn properties(steps: &[EnterStep]) -> impl Iterator<Item = &ProcessStep> {
    steps.iter().filter_map(|step| match step {
        EnterStep::Process(step) => Some(step.as_ref()),
        _ => None,
    })
}

fn permitted_to(step: &ProcessStep) -> Option<u64> {
    match step {
        ProcessStep::Capabilities { permitted, .. } => Some(*permitted),
        _ => None,
    }
}

/// Whether a step leaves the process with less than it had.
fn gives_up(step: &ProcessStep) -> bool {
    matches!(
        step,
        ProcessStep::Bounding(_) | ProcessStep::Capabilities { .. }
    )
}

fn joins(step: &EnterStep) -> bool {
    matches!(step, EnterStep::Join(..) | EnterStep::JoinProcess(_))
}

#[test]
fn who_enters_a_container_cannot_be_traced_from_it() {
    every_plan(|plan| {
        let (joiner, first) = (&plan.enter.joiner, &plan.enter.first);
        let user = |step: &EnterStep| {
            matches!(step, EnterStep::JoinProcess(flags) if flags & Kind::User.flag() != 0)
                || matches!(step, EnterStep::Join(_, Kind::User))
        };
        let hidden = |steps: &[EnterStep], what: &dyn Fn(&EnterStep) -> bool| {
            let hide = steps.iter().position(|step| *step == EnterStep::Hide);
            let first = steps.iter().position(what);
            first.is_none() || hide < first && hide.is_some()
        };
        assert!(first.contains(&EnterStep::Hide));
        assert!(hidden(first, &joins), "hidden before it joins");
        assert!(
            hidden(joiner, &user),
            "hidden before it joins a user namespace"
        );
        let last = matches!(joiner.last(), Some(EnterStep::CloseDescriptors(_)));
        let running = joiner
            .iter()
            .any(|step| matches!(step, EnterStep::JoinProcess(_)));
        assert!(!running || last, "nothing of the host is open inside");
        let given_up: Vec<_> = properties(joiner).filter(|step| gives_up(step)).collect();
        match given_up[..] {
            [] => assert!(!running, "privileges that others inside could take"),
            [
                ProcessStep::Bounding(_),
                ProcessStep::Capabilities { permitted, .. },
            ] => {
                let program = plan.process.iter().find_map(permitted_to);
                let more = permitted & !program.unwrap_or(0) & !ON_THE_WAY;
                assert_eq!(more, 0, "more than the program has: {more:x}");
            }
            _ => panic!("{given_up:?}"),
        }
    });
}

#[test]
fn namespaces_are_entered_while_privileges_allow() {
    every_plan(|plan| {
        in_order(&plan.enter.joiner, |step| match step {
            // The files below /proc/self change hands with the user namespace.
            EnterStep::Process(step) if gives_up(step) => 7,
            EnterStep::Affinity(_) | EnterStep::Process(_) | EnterStep::OomScoreAdj(_) => 0,
            EnterStep::Hide => 1,
            EnterStep::Join(..) | EnterStep::JoinProcess(_) => 2,
            // What the host's root makes, in a network that is joined or in none.
            EnterStep::NewMountNamespace | EnterStep::FileSystemIds(_) | EnterStep::Root(_) => 3,
            EnterStep::NewUserNamespace => 4,
            EnterStep::IdMaps => 5,
            EnterStep::TimeOffsets(_) => 6,
            EnterStep::Label(_) => 8,
            EnterStep::CloseDescriptors(_) => 9,
            EnterStep::AwaitCgroup
            | EnterStep::AwaitClass
            | EnterStep::AwaitTracer
            | EnterStep::NewCgroupNamespace
            | EnterStep::NetDevices
            | EnterStep::JoinFirst(_)
            | EnterStep::AwaitMounts => 10,
        });
        in_order(&plan.enter.first, |step| match step {
            // Whatever a step costs is counted, and limited.
            EnterStep::AwaitCgroup | EnterStep::AwaitClass | EnterStep::AwaitTracer => 0,
            EnterStep::Affinity(_) | EnterStep::Process(_) | EnterStep::OomScoreAdj(_) => 1,
            // newuidmap looks at who owns /proc/PID, which hiding changes.
            EnterStep::IdMaps => 2,
            EnterStep::Hide => 3,
            EnterStep::Join(..) | EnterStep::JoinProcess(_) => 4,
            EnterStep::NewCgroupNamespace => 5,
            EnterStep::NetDevices => 6,
            // Namespaces are as they will be shown, and then there is something to copy.
            EnterStep::AwaitMounts => 7,
            EnterStep::NewMountNamespace => 8,
            EnterStep::NewUserNamespace
            | EnterStep::JoinFirst(_)
            | EnterStep::FileSystemIds(_)
            | EnterStep::Root(_)
            | EnterStep::TimeOffsets(_)
            | EnterStep::Label(_)
            | EnterStep::CloseDescriptors(_) => 9,
        });
        let user = Kind::User.flag();
        let joiner = &plan.enter.joiner;
        if joiner.contains(&EnterStep::NewUserNamespace) {
            assert_eq!(plan.enter.new & user, 0, "one user namespace, not two");
        } else if plan.ids.is_some() {
            assert_ne!(
                plan.enter.new & user,
                0,
                "ids are mapped in a new user namespace"
            );
        }
    });
}

fn place(step: &RootStep) -> u8 {
    match step {
        // Before anything is found by a path.
        RootStep::ExpectNamespaceRoot => 0,
        // Nothing that is mounted from here on may reach the host.
        RootStep::Propagation(_) | RootStep::PrivateParent(_) => 1,
        // With the caller's ids: container root may not reach the source.
        RootStep::OpenSource(_) => 1,
        RootStep::AttachRoot { .. } | RootStep::AttachInherited | RootStep::ExpectRoot { .. } => 2,
        RootStep::AttachMapped { .. } => panic!("the joiner's"),
        // What is made from here on belongs to the container.
        RootStep::BecomeRoot => 3,
        RootStep::Mount(_) | RootStep::MountPropagation { .. } => 4,
        RootStep::Device(_) => 6,
        RootStep::Link { .. } => 7,
        RootStep::Console { .. } | RootStep::Terminal { .. } | RootStep::NamedTerminal => 8,
        // Hooks may still mount; what they mount is masked as well.
        RootStep::RuntimeHooks => 9,
        RootStep::Hook(_) => 10,
        // In the program's file system as hooks leave it, while it can be written.
        RootStep::WorkingDirectory(_) => 11,
        // Hooks are not to know them; their place may be read-only later.
        RootStep::Secrets(_) => 11,
        RootStep::ReadonlyMount(_) => 11,
        RootStep::Sysctl { .. } => 11,
        RootStep::Mask(_) => 12,
        RootStep::ReadonlyPath(_) => 13,
        RootStep::ReadonlyRoot => 14,
        RootStep::Pivot | RootStep::MoveRoot => 15,
        RootStep::RootPropagation(_) => 16,
        // What the program will see is what the rules are for.
        RootStep::Fence(FenceStep::Ruleset(_)) => 17,
        RootStep::Fence(_) => 18,
    }
}

/// What the mounter does of building a root.
fn mounted(plan: &Plan) -> Vec<RootStep> {
    let steps = plan.enter.mounter.iter();
    let root = steps.filter_map(|step| match step {
        EnterStep::Root(step) => Some((**step).clone()),
        _ => None,
    });
    root.collect()
}

#[test]
fn the_root_file_system_is_built_from_the_outside_in() {
    every_plan(|plan| {
        in_order(&plan.root, place);
        in_order(&mounted(plan), place);
        let pivots = |step: &RootStep| matches!(step, RootStep::Pivot | RootStep::MoveRoot);
        let makes_user = |step: &EnterStep| matches!(step, EnterStep::NewUserNamespace);
        let user =
            plan.enter.new & Kind::User.flag() != 0 || plan.enter.joiner.iter().any(makes_user);
        // The kernel gives nobody in a chroot a user namespace.
        let expected = if user { 0 } else { count(&plan.root, pivots) };
        let expects = |step: &RootStep| *step == RootStep::ExpectNamespaceRoot;
        assert_eq!(count(&plan.root, expects), expected);
        let attaches = |step: &RootStep| {
            matches!(
                step,
                RootStep::AttachRoot { .. } | RootStep::AttachInherited
            )
        };
        let made = |step: &RootStep| matches!(step, RootStep::Mount(_) | RootStep::Link { .. });
        let in_existing = !plan.root.iter().chain(&mounted(plan)).any(made);
        assert_eq!(count(&plan.root, pivots), usize::from(!in_existing));
        assert_eq!(count(&plan.root, attaches), usize::from(!in_existing));
    });
}

#[test]
fn privileges_go_last_and_for_good() {
    every_plan(|plan| {
        in_order(&plan.process, |step| match step {
            ProcessStep::Session => 0,
            // What needs privileges, and what the program inherits.
            ProcessStep::Personality(_)
            | ProcessStep::Affinity(_)
            | ProcessStep::MemoryPolicy(_)
            | ProcessStep::Keyring(_)
            | ProcessStep::Terminal
            | ProcessStep::TerminalStdio
            | ProcessStep::StdioOwner(_)
            | ProcessStep::LoopbackUp
            | ProcessStep::Route(_)
            | ProcessStep::Hostname(_)
            | ProcessStep::Domainname(_)
            | ProcessStep::Rlimit { .. }
            | ProcessStep::Scheduler(_)
            | ProcessStep::IoPriority(_)
            | ProcessStep::Umask(_)
            | ProcessStep::Cwd(_) => 1,
            // Needs CAP_SETPCAP.
            ProcessStep::Bounding(_) => 2,
            // Need CAP_SETGID, which a change of user may take.
            ProcessStep::Groups(_) => 3,
            ProcessStep::Gid(_) => 4,
            ProcessStep::Uid(_) => 5,
            ProcessStep::Capabilities { .. } => 6,
            // What follows is judged with the program's own rights.
            ProcessStep::CwdAsUser(_) => 7,
            ProcessStep::FindProgram => 8,
            ProcessStep::NoNewPrivileges => 9,
            // A change of identity takes it back.
            ProcessStep::DieWithParent => 10,
        });
        let once: [fn(&ProcessStep) -> bool; 6] = [
            |step| matches!(step, ProcessStep::Session),
            |step| matches!(step, ProcessStep::Bounding(_)),
            |step| matches!(step, ProcessStep::Gid(_)),
            |step| matches!(step, ProcessStep::Uid(_)),
            |step| matches!(step, ProcessStep::Capabilities { .. }),
            |step| matches!(step, ProcessStep::FindProgram),
        ];
        let early =
            properties(&plan.enter.joiner).filter(|step| matches!(step, ProcessStep::Bounding(_)));
        let all: Vec<_> = early.chain(&plan.process).collect();
        for (index, is) in once.into_iter().enumerate() {
            assert_eq!(count(&all, |step| is(step)), 1, "{index}");
        }
    });
}

#[test]
fn the_filter_is_the_last_thing_before_the_program() {
    every_plan(|plan| {
        in_order(&plan.exec, |step| match step {
            ExecStep::Park => 0,
            ExecStep::Hook(_) => 1,
            // Through a descriptor of procfs, so before it is closed.
            ExecStep::Label(_) => 2,
            // Descriptors of the ruleset go with the rest.
            ExecStep::Restrict { .. } => 3,
            ExecStep::CloseDescriptors(_) => 4,
            // With all that is needed to give up the rest by itself.
            ExecStep::Init(_) => 5,
            ExecStep::Seccomp(_) => 6,
            ExecStep::Process(_) => 7,
            ExecStep::Execute(_) => 8,
        });
        let closes = |step: &ExecStep| matches!(step, ExecStep::CloseDescriptors(_));
        let executes = |step: &ExecStep| matches!(step, ExecStep::Execute(_));
        assert_eq!(count(&plan.exec, closes), 1);
        assert_eq!(count(&plan.exec, executes), 1);
    });
}

/// Loading a filter takes no_new_privs or CAP_SYS_ADMIN, which then goes.
#[test]
fn a_filter_can_be_loaded_and_leaves_no_privilege_behind() {
    every_plan(|plan| {
        let admin = |step: &ProcessStep| match step {
            ProcessStep::Capabilities { effective, .. } => Some(effective & SYS_ADMIN != 0),
            _ => None,
        };
        let kept = plan.process.iter().find_map(admin).unwrap();
        let bounding = |step: &ProcessStep| match step {
            ProcessStep::Bounding(set) => Some(set & SYS_ADMIN != 0),
            _ => None,
        };
        let early = properties(&plan.enter.joiner);
        let asked = early.chain(&plan.process).find_map(bounding).unwrap();
        let late = plan.exec.iter().find_map(|step| match step {
            ExecStep::Process(step) => admin(step),
            _ => None,
        });
        let loads = |step: &ExecStep| matches!(step, ExecStep::Seccomp(_));
        if plan.exec.iter().any(loads) {
            assert!(kept || plan.process.contains(&ProcessStep::NoNewPrivileges));
        }
        assert!(!kept || asked || late == Some(false), "CAP_SYS_ADMIN stays");
    });
}

/// What the host's root attaches, the container's root finds locked: it is all there
/// before the container's mount namespace is, and nothing is attached after.
#[test]
fn what_is_mounted_is_mounted_before_the_container_copies_it() {
    let mut given = 0;
    every_plan(|plan| {
        let enter = &plan.enter;
        let new = |steps: &[EnterStep]| steps.contains(&EnterStep::NewMountNamespace);
        if enter.mounter.is_empty() {
            assert!(!new(&enter.joiner) && !new(&enter.first));
            return;
        }
        given += 1;
        let at = |wanted: fn(&EnterStep) -> bool| enter.joiner.iter().position(wanted).unwrap();
        let attach = at(
            |step| matches!(step, EnterStep::Root(step) if matches!(**step, RootStep::AttachMapped { .. })),
        );
        assert!(at(|step| *step == EnterStep::NewMountNamespace) < attach);
        let user = Kind::User.flag();
        assert_eq!(enter.new & (user | Kind::Mount.flag()), user);
        let copy = [EnterStep::AwaitMounts, EnterStep::NewMountNamespace];
        assert!(enter.first.ends_with(&copy), "a copy, and locked");
        let joined = |kind| EnterStep::JoinFirst(kind);
        assert_eq!(enter.mounter[0], joined(Kind::Pid), "the joiner's");
        in_order(&enter.mounter, |step| match step {
            EnterStep::JoinFirst(_) => 0,
            EnterStep::FileSystemIds(_) => 1,
            EnterStep::Hide => 2,
            EnterStep::Root(_) => 3,
            _ => panic!("{step}"),
        });
        assert!(enter.mounter.contains(&EnterStep::Hide));
        for kind in [Kind::User, Kind::Mount] {
            let stays = !enter.mounter.contains(&joined(kind));
            assert!(stays, "it stays the host's root");
        }
        let attaches = |step: &RootStep| {
            matches!(
                step,
                RootStep::Mount(_)
                    | RootStep::Device(_)
                    | RootStep::Console { .. }
                    | RootStep::Mask(_)
                    | RootStep::ReadonlyPath(_)
                    | RootStep::Secrets(_)
            )
        };
        assert_eq!(count(&plan.root, attaches), 0, "all is locked");
        assert!(plan.limits.is_empty(), "they are set before");
    });
    assert!(given >= 3, "{given} plans");
}
