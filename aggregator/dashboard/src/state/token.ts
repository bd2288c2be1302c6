// Asking a person for the admin token, once for everybody who needs it. The token itself is the client's.
import { signal } from '@preact/signals';
import { storeToken } from '../api/client';

interface Question {
  why: string;
  answer: (token: string | null) => void;
}

export const tokenQuestion = signal<Question | undefined>(undefined);

/** Opens the dialog; resolves to whether a token was given. */
export function askForToken(why: string): Promise<boolean> {
  tokenQuestion.value?.answer(null);
  return new Promise((resolve) => {
    tokenQuestion.value = {
      why,
      answer: (token) => {
        tokenQuestion.value = undefined;
        if (token !== null) storeToken(token);
        resolve(token !== null);
      },
    };
  });
}
