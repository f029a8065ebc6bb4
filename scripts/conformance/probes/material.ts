import { keysFromOracle } from '../oracle.ts';

export const KEY_KINDS = ['rsa', 'p256', 'p384', 'p521', 'ed25519'] as const;
export type KeyKind = (typeof KEY_KINDS)[number];

/** Keys and certificates in PEM, made anew for each run. */
export interface Material {
  /** PKCS #8. */
  readonly private: Readonly<Record<KeyKind, string>>;
  /** PKCS #1, or SEC 1. */
  readonly legacy: Readonly<Partial<Record<KeyKind, string>>>;
  readonly public: Readonly<Record<KeyKind, string>>;
  readonly certificates: Readonly<Record<KeyKind, string>>;
  readonly requests: Readonly<Record<KeyKind, string>>;
  readonly root: string;
  readonly intermediate: string;
  readonly leaf: string;
  readonly expired: string;
  readonly leafKey: string;
}

export const makeMaterial = (): Material => keysFromOracle() as Material;
