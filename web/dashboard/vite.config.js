import { defineConfig } from 'vite'

// The output is committed, and the relay embeds it: the same packages make the same bytes.
export default defineConfig({
  // A proxy may put something in front of the path.
  base: './',
  build: {
    target: 'es2022',
    outDir: '../../relay/assets/dashboard',
    emptyOutDir: true,
    assetsDir: '',
    // The page's content policy has no place for either.
    assetsInlineLimit: 0,
    modulePreload: false,
    rolldownOptions: {
      output: {
        // Hexadecimal: by that the relay knows names that never change their content.
        hashCharacters: 'hex',
        entryFileNames: 'dashboard-[hash:16].js',
        chunkFileNames: '[name]-[hash:16].js',
        assetFileNames: '[name]-[hash:16][extname]',
      },
    },
  },
})
