export const metadata = { title: 'app', icons: 'data:,' };

export default function Layout({ children }) {
    return <html><body>{children}</body></html>;
}
