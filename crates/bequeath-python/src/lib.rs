//! The extension module `bequeath._engine`: the export list and nothing else.

use pyo3::prelude::*;

mod after_fork;
mod before_exec;
mod blocking;
mod budgets;
mod bytes_view;
mod connection;
mod error;
mod explain;
mod filled_once;
mod from_rust;
mod held_process;
mod inspect;
mod once;
mod origin;
mod outcome;
mod packed;
mod pickle;
mod pool;
mod process;
mod queue_ends;
mod queue_insides;
mod queues;
mod quick;
mod reduction;
mod semlock;
mod sending;
mod session;
mod shared_memory;
mod shared_queue;
mod sharedctypes;
mod simple_queue;
mod site;
mod synchronize;
mod template;
mod transfer;
mod wait;
mod wire;

/// bequeath's engine; the public names live in the modules of the package.
#[pymodule]
mod _engine {
    #[pymodule_export]
    const VERSION: &str = env!("CARGO_PKG_VERSION");

    #[pymodule_export]
    use crate::after_fork::fork_failed;
    #[pymodule_export]
    use crate::budgets::{limit_math_threads, oom_kills, usable_processors};
    #[pymodule_export]
    use crate::connection::{pipe, rebuild_connection, Connection};
    #[pymodule_export]
    use crate::explain::{explain_object, explain_refusal};
    #[pymodule_export]
    use crate::from_rust::shared_object;
    #[pymodule_export]
    use crate::held_process::HeldProcess;
    #[pymodule_export]
    use crate::inspect::{diagnose, inspect_process};
    #[pymodule_export]
    use crate::outcome::{describe_failure, rebuild_failure, Failure};
    #[pymodule_export]
    use crate::packed::{pack, pack_outside, unpack, Packed};
    #[pymodule_export]
    use crate::pickle::value::{
        rebuild_cached, rebuild_cell, rebuild_class, rebuild_code, rebuild_descriptor,
        rebuild_enum, rebuild_function, rebuild_late, rebuild_main, rebuild_module,
        rebuild_namespace, rebuild_type_variable, rebuild_view, rebuild_weak_reference,
        register_by_value, set_cell, set_class, set_class_cell, set_function, set_late, set_module,
        travelling_globals, unregister_by_value, way_of_definition, Namespace,
    };
    #[pymodule_export]
    use crate::pickle::{
        dump, dumps, load, loads, Pickler, PicklerMemoProxy, Unpickler, UnpicklerMemoProxy,
    };
    #[pymodule_export]
    use crate::pool::{rebuild_seat, PoolDriver, ResultStream, ResultTaker, Seat, Shared};
    #[pymodule_export]
    use crate::process::{
        exit_process, open_this_process, set_process_name, tell_starter, Arrived, Child, Launch,
        Report, Tie, Watch,
    };
    #[pymodule_export]
    use crate::queue_ends::{QueueReader, QueueWriter};
    #[pymodule_export]
    use crate::queues::{JoinableQueue, Queue};
    #[pymodule_export]
    use crate::semlock::{sem_unlink, SemLock};
    #[pymodule_export]
    use crate::session::{
        session_attach, session_audit, session_descriptor, session_info, session_leave,
        session_places, session_scavenge, session_set_limit,
    };
    #[pymodule_export]
    use crate::shared_memory::{check_transfer, rebuild_shared_bytes, SharedBytes};
    #[pymodule_export]
    use crate::sharedctypes::{
        Synchronized, SynchronizedArray, SynchronizedBase, SynchronizedString,
    };
    #[pymodule_export]
    use crate::simple_queue::SimpleQueue;
    #[pymodule_export]
    use crate::synchronize::{
        rebuild_synchronized, Barrier, BoundedSemaphore, Condition, Event, Lock, RLock,
        SemLockView, Semaphore, WaiterCount,
    };
    #[pymodule_export]
    use crate::template::{
        can_compare_states, gather_memory, give_back_freed_memory, lay_ready, run_fork_handlers,
        tell_footprint, template_key, Becoming, Leftovers, Template, TemplateServer, Work,
    };
    #[pymodule_export]
    use crate::transfer::{
        export_descriptor, import_descriptor, rebuild_definition, rebuild_sealed, set_auditor,
        transfer_active, transfer_dumps, transfer_is_start, transfer_load, Sealed,
    };
    #[pymodule_export]
    use crate::wait::wait;

    #[pymodule_init]
    fn init(module: &super::Bound<'_, super::PyModule>) -> super::PyResult<()> {
        crate::site::register();
        crate::quick::quicken(module.py())?;
        crate::pickle::quicken(module)?;
        crate::after_fork::register(module)
    }
}
