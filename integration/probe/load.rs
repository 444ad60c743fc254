//! Programs that use up what a limit bounds: memory, processes, processor time,
//! a disk. Each says READY when a test may begin to look.

use std::fs;
use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::os::unix::process::CommandExt;
use std::process::{Command, ExitCode};
use std::time::{Duration, Instant};

use crate::act::{self, say, sleep};
use crate::{Outcome, raw};

/// The smallest page of any machine: touching one byte of each fills it.
const PAGE: usize = 4096;

/// What one direct write takes; a multiple of every disk's block.
const BLOCK: usize = 1 << 16;

/// Fills that many bytes of memory and keeps them.
pub(crate) fn eat(bytes: usize) -> Outcome {
    let mut kept: Vec<Vec<u8>> = Vec::new();
    for _ in 0..bytes.div_ceil(1 << 20) {
        let mut piece = vec![0u8; 1 << 20];
        piece
            .iter_mut()
            .step_by(PAGE)
            .for_each(|byte| *byte = std::hint::black_box(1));
        kept.push(piece);
    }
    say(&format!("ATE {bytes}"));
    let outcome = sleep(3600);
    drop(kept);
    outcome
}

/// Computes without a pause, and says so from time to time.
pub(crate) fn burn(seconds: u64) -> Outcome {
    say("READY");
    let end = Instant::now() + Duration::from_secs(seconds);
    let mut rounds = 0u64;
    while Instant::now() < end {
        let round = Instant::now() + Duration::from_millis(10);
        while Instant::now() < round {
            std::hint::black_box(rounds);
        }
        rounds += 1;
        say(&format!("ROUND {rounds}"));
    }
    Ok(ExitCode::SUCCESS)
}

/// Forks for ever, in every process there is, and never gives up.
pub(crate) fn bomb() -> Outcome {
    say("READY");
    loop {
        // A refused fork is tried again: that is what a bomb does.
        let _ = raw::fork();
    }
}

/// Many processes that wait.
pub(crate) fn herd(count: u32) -> Outcome {
    for made in 0..count {
        match raw::fork() {
            Ok(Some(_)) => {}
            Ok(None) => loop {
                std::thread::sleep(Duration::from_secs(3600));
            },
            Err(errno) => return Err(format!("fork {made}: {errno}")),
        }
    }
    sleep(3600)
}

/// Writes to a disk, past the cache, and says how many milliseconds it took.
pub(crate) fn pour(file: &str, bytes: usize) -> Outcome {
    let failed = |error: std::io::Error| format!("{file}: {error}");
    let mut disk = fs::OpenOptions::new()
        .write(true)
        .custom_flags(libc::O_DIRECT)
        .open(file)
        .map_err(failed)?;
    // Direct writes want an aligned address.
    let buffer = vec![0u8; BLOCK + PAGE];
    let start = buffer.as_ptr().align_offset(PAGE);
    let begin = Instant::now();
    for _ in 0..bytes.div_ceil(BLOCK) {
        disk.write_all(&buffer[start..start + BLOCK])
            .map_err(failed)?;
    }
    say(&begin.elapsed().as_millis().to_string());
    Ok(ExitCode::SUCCESS)
}

/// Opens an RDMA device that often, and says of each whether a context was had;
/// all are kept until the end.
pub(crate) fn rdma_contexts(device: &str, count: u32) -> Outcome {
    let mut kept = Vec::new();
    for _ in 0..count {
        let mut file = fs::OpenOptions::new()
            .read(true)
            .write(true)
            .open(device)
            .map_err(|error| format!("{device}: {error}"))?;
        // IB_USER_VERBS_CMD_GET_CONTEXT, the lengths of request and response in
        // words of four bytes, and where the response goes.
        let mut response = [0u8; 8];
        let mut request = Vec::new();
        request.extend(0u32.to_ne_bytes());
        request.extend(4u16.to_ne_bytes());
        request.extend(2u16.to_ne_bytes());
        request.extend((response.as_mut_ptr() as u64).to_ne_bytes());
        let outcome = file.write_all(&request);
        std::hint::black_box(&mut response);
        act::named(outcome)?;
        kept.push(file);
    }
    Ok(ExitCode::SUCCESS)
}

/// Becomes a command in another cgroup, as another user.
pub(crate) fn enter(cgroup: &str, uid: u32, gid: u32, command: &str, args: &[&str]) -> Outcome {
    let procs = format!("{cgroup}/cgroup.procs");
    fs::write(&procs, "0").map_err(|error| format!("{procs}: {error}"))?;
    let error = Command::new(command).args(args).uid(uid).gid(gid).exec();
    Err(format!("{command}: {error}"))
}
