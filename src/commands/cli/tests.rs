//! Typical command lines of engines, down to the arguments a command gets.

use super::*;

/// What a command's own reader gets to see of a command line.
fn matches(line: &str) -> ArgMatches {
    let mut words = line.split(' ').map(OsString::from);
    let name = words.next().unwrap().into_string().unwrap();
    let args: Vec<_> = words.collect();
    let command = find("capsid", &name).unwrap();
    let order = match OPTIONS_FIRST.contains(&name.as_str()) {
        true => Order::OptionsFirst,
        false => Order::Mixed,
    };
    let sorted = go_flags::sort(&command, &args, order).unwrap();
    assert_eq!(wrong_count(&command, sorted.operands.len()), None);
    parse(command, &sorted.options, &sorted.operands).unwrap()
}

#[test]
fn definitions_are_sound_and_every_option_has_a_long_name() {
    definition().debug_assert();
    for (name, _) in COMMANDS {
        let command = find("capsid", name).unwrap();
        assert_eq!(command.get_name(), *name);
        for arg in command.get_arguments().filter(|arg| !arg.is_positional()) {
            assert!(arg.get_long().is_some(), "{name}: {arg}");
        }
    }
}

#[test]
fn create_as_containerd_calls_it() {
    let line = "create --bundle /b --pid-file init.pid -console-socket= --no-pivot ctr";
    let args = create::CreateArgs::from_matches(&matches(line)).unwrap();
    let here = std::env::current_dir().unwrap();
    assert_eq!(
        (args.id.as_str(), args.bundle.as_path()),
        ("ctr", Path::new("/b"))
    );
    assert_eq!(args.pid_file, Some(here.join("init.pid")));
    assert_eq!((args.console_socket, args.preserve_fds), (None, 0));
    assert!(args.no_pivot && !args.no_new_keyring);

    let args = create::CreateArgs::from_matches(&matches("create ctr")).unwrap();
    assert_eq!(args.bundle, here);
}

#[test]
fn run_adds_to_create() {
    let line = "run -d -no-subreaper --keep --preserve-fds 2 ctr";
    let args = run::RunArgs::from_matches(&matches(line)).unwrap();
    assert!(args.detach && args.keep && args.no_subreaper);
    assert_eq!(args.create.preserve_fds, 2);
}

#[test]
fn exec_leaves_the_programs_options_alone() {
    let line = "exec -e A=1 -env B=a,b -u 7:8 -g 9 -g 10 --tty=false ctr ls -t --help";
    let args = exec::ExecArgs::from_matches(&matches(line)).unwrap();
    assert_eq!(args.command, ["ls", "-t", "--help"]);
    assert_eq!(args.env, ["A=1", "B=a,b"]);
    assert_eq!(
        args.user,
        Some(exec::UserArg {
            uid: 7,
            gid: Some(8)
        })
    );
    assert_eq!(
        (args.additional_gids.as_slice(), args.tty),
        ([9, 10].as_slice(), false)
    );

    let line = "exec --pid-file /p --process /f --detach ctr";
    let args = exec::ExecArgs::from_matches(&matches(line)).unwrap();
    assert_eq!((args.process, args.detach), (Some("/f".into()), true));
    let args = exec::ExecArgs::from_matches(&matches("exec ctr -- ls --")).unwrap();
    assert_eq!(args.command, ["ls", "--"]);
    let nothing = exec::ExecArgs::from_matches(&matches("exec ctr")).unwrap_err();
    assert!(
        nothing.to_string().contains("args cannot be empty"),
        "{nothing}"
    );
}

#[test]
fn the_rest_as_engines_call_them() {
    let args = kill::KillArgs::from_matches(&matches("kill --all ctr 9")).unwrap();
    assert_eq!(
        (args.id.as_str(), args.signal.as_str(), args.all),
        ("ctr", "9", true)
    );
    let args = kill::KillArgs::from_matches(&matches("kill ctr")).unwrap();
    assert_eq!((args.signal.as_str(), args.all), ("SIGTERM", false));
    let args = ps::PsArgs::from_matches(&matches("ps --format json ctr -o pid")).unwrap();
    assert_eq!(
        (args.json, args.ps_args.join(" ").as_str()),
        (true, "-o pid")
    );
    let args = list::ListArgs::from_matches(&matches("list -q -f=json")).unwrap();
    assert!(args.json && args.quiet);
    assert!(
        delete::DeleteArgs::from_matches(&matches("delete ctr --force"))
            .unwrap()
            .force
    );
    let args = explain::ExplainArgs::from_matches(&matches("explain")).unwrap();
    assert_eq!(args.bundle, std::env::current_dir().unwrap());
    for line in ["state c", "start c", "pause c", "resume c"] {
        let matches = matches(line);
        let id = match line.split(' ').next() {
            Some("state") => state::StateArgs::from_matches(&matches).unwrap().id,
            Some("start") => start::StartArgs::from_matches(&matches).unwrap().id,
            Some("pause") => pause::PauseArgs::from_matches(&matches).unwrap().id,
            _ => resume::ResumeArgs::from_matches(&matches).unwrap().id,
        };
        assert_eq!(id, "c");
    }
}

#[test]
fn update_as_engines_and_people_call_it() {
    use super::super::life::update::Source;
    let limits = |line: &str| update::UpdateArgs::from_matches(&matches(line)).map(|u| u.limits);
    for line in [
        "update --resources=- c",
        "update -r - c",
        "update --resources - c",
    ] {
        assert_eq!(limits(line).unwrap(), Source::StandardInput, "{line}");
    }
    let file = limits("update --resources=/tmp/podman1 c").unwrap();
    assert_eq!(file, Source::File("/tmp/podman1".into()));
    let line = "update --memory 512m --memory-swap -1 --cpu-quota=-1 --pids-limit 7 \
                --cpuset-cpus 0-1 --blkio-weight 300 --cpu-idle 1 c";
    let Source::Options(resources) = limits(line).unwrap() else {
        panic!("options are no file");
    };
    let memory = resources.memory().unwrap();
    assert_eq!((memory.limit(), memory.swap()), (Some(512 << 20), Some(-1)));
    let cpu = resources.cpu().clone().unwrap();
    assert_eq!(
        (cpu.quota(), cpu.period(), cpu.idle()),
        (Some(-1), None, Some(1))
    );
    assert_eq!(cpu.cpus().as_deref(), Some("0-1"));
    assert_eq!(resources.pids().unwrap().limit(), 7);
    let weight = resources.block_io().as_ref().and_then(|io| io.weight());
    assert_eq!(weight, Some(300));
    for wrong in [
        "update --resources=- --memory 5 c",
        "update --blkio-weight 70000 c",
        "update --cpu-share -1 c",
    ] {
        assert!(limits(wrong).is_err(), "{wrong}");
    }
}

#[test]
fn events_have_go_durations() {
    let args = |line: &str| events::EventsArgs::from_matches(&matches(line));
    let plain = args("events c").unwrap();
    assert_eq!((plain.interval.as_secs(), plain.once), (5, false));
    let other = args("events -interval 250ms --stats c").unwrap();
    assert_eq!((other.interval.as_millis(), other.once), (250, true));
    assert!(args("events --interval=0s c").is_err());
}
