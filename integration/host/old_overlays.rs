//! The tests of `overlays` as on a kernel before 6.15, whose overlays take no layers
//! by descriptor.

use crate::cases::cases;
use crate::overlays::{self, Engine};
use crate::roles::Test;

cases! {
    ROOT [RealRoot]: layers_that_are_only_read, programs_of_the_layers, reasons_for_none;
    ROOT [RealRoot, Busybox]: layers_that_are_written, layers_in_memory, the_engine_sees_it,
        a_killed_creation_gives_the_mount_back, reasons_for_none_all_the_same,
        options_are_the_same, neither_way;
}

/// The command of fsconfig(2) with which a layer is given as a descriptor, and EBADF,
/// which a kernel from 6.5 on says to one of a detached mount.
const SET_FD: [&str; 4] = ["fsconfig", "1", "5", "9"];

macro_rules! as_before {
    ($($name:ident),+ $(,)?) => {
        $(fn $name(test: &Test) {
            test.lacking.get_or_init(|| SET_FD);
            overlays::$name(test);
        })+
    };
}

as_before!(
    layers_that_are_only_read,
    programs_of_the_layers,
    reasons_for_none,
    layers_that_are_written,
    layers_in_memory,
    the_engine_sees_it,
    a_killed_creation_gives_the_mount_back,
    reasons_for_none_all_the_same,
    options_are_the_same,
);

/// A kernel that makes no overlay of layers with mapped ids at all.
fn neither_way(test: &Test) {
    test.lacking.get_or_init(|| SET_FD);
    // mount(2) without flags: EINVAL
    let probe = test.machine.probe.to_string_lossy().into_owned();
    let more = [&*probe, "lack", "mount", "3", "0", "22"];
    let engine = Engine::written(overlays::writing(test), ":").under(&more);
    overlays::runs_without(&engine, "mount: invalid argument (EINVAL)");
}
