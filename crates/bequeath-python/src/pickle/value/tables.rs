//! What taking definitions apart and putting them together needs of the interpreter; looked up once.

use crate::looked_up;

looked_up! {
    pub(super) Tables {
        marshal_dumps: "marshal"."dumps",
        marshal_loads: "marshal"."loads",
        import_module: "importlib"."import_module",
        getattr: "builtins"."getattr",
        vars: "builtins"."vars",
        referents: "gc"."get_referents",
        set_class_attribute: "builtins"."type.__setattr__",
        delete_class_attribute: "builtins"."type.__delattr__",
        weak_reference: "_weakref"."ref",
        modules: "sys"."modules",
        dispatch_table: "copyreg"."dispatch_table",
        property: "builtins"."property",
        class_method: "builtins"."classmethod",
        static_method: "builtins"."staticmethod",
        text_stream: "_io"."_TextIOBase",
        cell: "types"."CellType",
        function: "types"."FunctionType",
        method: "types"."MethodType",
        member: "types"."MemberDescriptorType",
        class_method_descriptor: "types"."ClassMethodDescriptorType",
        getset: "types"."GetSetDescriptorType",
        main_surely_has: "bequeath._home"."main_surely_has",
    }
}

looked_up! {
    /// The functions that rebuild; pickles name them as functions of the engine.
    pub(in super::super) Callables {
        function: "bequeath._engine"."rebuild_function",
        set_function: "bequeath._engine"."set_function",
        class: "bequeath._engine"."rebuild_class",
        set_class: "bequeath._engine"."set_class",
        definition: "bequeath._engine"."rebuild_definition",
        enumeration: "bequeath._engine"."rebuild_enum",
        code: "bequeath._engine"."rebuild_code",
        cell: "bequeath._engine"."rebuild_cell",
        set_cell: "bequeath._engine"."set_cell",
        namespace: "bequeath._engine"."rebuild_namespace",
        main: "bequeath._engine"."rebuild_main",
        module: "bequeath._engine"."rebuild_module",
        set_module: "bequeath._engine"."set_module",
        cached: "bequeath._engine"."rebuild_cached",
        descriptor: "bequeath._engine"."rebuild_descriptor",
        view: "bequeath._engine"."rebuild_view",
        variable: "bequeath._engine"."rebuild_type_variable",
        late: "bequeath._engine"."rebuild_late",
        set_late: "bequeath._engine"."set_late",
        weak: "bequeath._engine"."rebuild_weak_reference",
        class_cell: "bequeath._engine"."set_class_cell",
    }
}
