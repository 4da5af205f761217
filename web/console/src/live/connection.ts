// How the page's connection is doing, told by whatever the page reads and shown in the top bar.
import { signal, useSignalEffect, type ReadonlySignal } from "@preact/signals";
import { useEffect } from "preact/hooks";
import type { Health } from "../api/event_stream";
import type { Polled } from "./poll";

/** Null while nothing is read. */
export const connection = signal<Health | null>(null);

/** The page's freshness is that of this stream. */
export function useStreamHealth(health: ReadonlySignal<Health>): void {
  useSignalEffect(() => {
    connection.value = health.value;
  });
  useForgotten();
}

/** The page's freshness is that of this list. */
export function usePolledHealth(polled: ReadonlySignal<Polled<unknown>>): void {
  const { error, readAt, isLoading } = polled.value;
  useEffect(() => {
    const state = error ? "stale" : isLoading ? "connecting" : "live";
    connection.value = { connection: state, heardAt: readAt, error };
  }, [error, readAt, isLoading]);
  useForgotten();
}

function useForgotten(): void {
  useEffect(
    () => () => {
      connection.value = null;
    },
    [],
  );
}
