/*
 * The part of the WebAssembly API that is used here: the compiler's library has no types for it without those of a
 * browser.
 */
export interface WasmModule {
  readonly [Symbol.toStringTag]: string;
}

export interface WasmMemory {
  /** Another one after the memory grew. */
  readonly buffer: ArrayBuffer;
}

export interface WasmInstance {
  readonly exports: Readonly<Record<string, unknown>>;
}

interface WasmApi {
  compile(bytes: Uint8Array): Promise<WasmModule>;
  validate(bytes: Uint8Array): boolean;
  readonly Module: {
    exports(module: WasmModule): readonly { readonly name: string; readonly kind: string }[];
    imports(module: WasmModule): readonly { readonly module: string; readonly name: string }[];
  };
  readonly Instance: new (module: WasmModule, imports: object) => WasmInstance;
  readonly RuntimeError: new (message?: string) => Error;
  readonly Memory: new (limits: { readonly initial: number; readonly maximum: number }) => WasmMemory;
}

export const { WebAssembly: wasmApi } = globalThis as unknown as { readonly WebAssembly: WasmApi };
