// A researcher's reading key: made here, kept in this browser's IndexedDB, and not extractable:
// no script can read its private halves, this one neither. What opens is HPKE (RFC 9180) of
// @hpke/core; signatures and keys are the browser's own (Web Cryptography).
import { Aes256Gcm, CipherSuite, DhkemX25519HkdfSha256, HkdfSha256 } from "./hpke/core-1.9.0/mod.js";

const DATABASE = "commons-linkage";
const STORE = "reading-keys";
const MAGIC = "CLS1";
const SIGNATURE_BYTES = 64;
const ENCAPSULATED_BYTES = 32;

function request(one) {
  return new Promise((resolve, reject) => {
    one.onsuccess = () => resolve(one.result);
    one.onerror = () => reject(one.error);
  });
}

async function store(mode, act) {
  const opening = indexedDB.open(DATABASE, 1);
  opening.onupgradeneeded = () => opening.result.createObjectStore(STORE, { keyPath: "sealing" });
  const database = await request(opening);
  try {
    return await request(act(database.transaction(STORE, mode).objectStore(STORE)));
  } finally {
    database.close();
  }
}

export function toBase64(bytes) {
  return btoa(String.fromCharCode(...new Uint8Array(bytes)));
}

export function fromBase64(text) {
  return Uint8Array.from(atob(text), (letter) => letter.charCodeAt(0));
}

// Makes and keeps a key pair of each kind; `about` says what it is for. Gives the public halves.
export async function makeKey(about) {
  const seal = await crypto.subtle.generateKey({ name: "X25519" }, false, ["deriveBits"]);
  const sign = await crypto.subtle.generateKey({ name: "Ed25519" }, false, ["sign", "verify"]);
  const sealing = toBase64(await crypto.subtle.exportKey("raw", seal.publicKey));
  const signing = toBase64(await crypto.subtle.exportKey("raw", sign.publicKey));
  await store("readwrite", (keys) => keys.put({ ...about, sealing, signing, seal, sign, made: Date.now() }));
  if (navigator.storage && navigator.storage.persist) await navigator.storage.persist();
  return { sealing, signing };
}

export function findKey(sealing) {
  return store("readonly", (keys) => keys.get(sealing));
}

// The bytes that both the signature and HPKE bind: linkage.sealing.Context.info.
function contextInfo(context) {
  const texts = ["commons-linkage/1", context.study, context.sender, context.recipient, context.purpose, ...context.details];
  const parts = texts.map((text) => new TextEncoder().encode(text));
  const info = new Uint8Array(parts.reduce((sum, part) => sum + 4 + part.length, 0));
  const view = new DataView(info.buffer);
  let at = 0;
  for (const part of parts) {
    view.setUint32(at, part.length);
    info.set(part, at + 4);
    at += 4 + part.length;
  }
  return info;
}

// Opens what `senderSigning` (base64) signed and sealed to the key, in exactly this context.
export async function open(sealed, key, senderSigning, context) {
  const magic = new TextDecoder().decode(sealed.slice(0, MAGIC.length));
  const body = sealed.slice(MAGIC.length + SIGNATURE_BYTES);
  if (magic !== MAGIC || body.length <= ENCAPSULATED_BYTES) throw new Error("They are truncated. Load the page again.");
  const info = contextInfo(context);
  const digest = new Uint8Array(await crypto.subtle.digest("SHA-256", body));
  const signed = new Uint8Array([...info, ...digest]);
  const signer = await crypto.subtle.importKey("raw", fromBase64(senderSigning), { name: "Ed25519" }, false, ["verify"]);
  const signature = sealed.slice(MAGIC.length, MAGIC.length + SIGNATURE_BYTES);
  if (!(await crypto.subtle.verify({ name: "Ed25519" }, signer, signature, signed))) {
    throw new Error(`They are not signed by ${context.sender} for this question, or were altered. Tell its data manager.`);
  }
  const suite = new CipherSuite({ kem: new DhkemX25519HkdfSha256(), kdf: new HkdfSha256(), aead: new Aes256Gcm() });
  try {
    const recipient = await suite.createRecipientContext({
      recipientKey: key.seal, enc: body.slice(0, ENCAPSULATED_BYTES), info,
    });
    return new Uint8Array(await recipient.open(body.slice(ENCAPSULATED_BYTES)));
  } catch (fault) {
    throw new Error("They do not open with this reading key. Ask the enclave's data manager to count again.");
  }
}
